//===- CliChat.cpp - A conversation of several turns ----------------------===//
//
// Every turn renders the whole conversation as the model's template does, so that the
// tokens are the template's; what the cache holds already is not computed again.
//
//===----------------------------------------------------------------------===//
#include "CliGenerate.h"
#include "quern/Runtime/Chat.h"
#include <cstdio>
#include <unistd.h>

namespace quern::runtime::cli {

static Status loadFormat(const Model &model, ChatFormat &format) {
  if (!model.tokenizer)
    return model.noTokenizer();
  std::span<const uint8_t> bytes = model.engine->payload().section(ChatSection);
  if (bytes.empty() || !format.parse(bytes.data(), bytes.size()))
    return Status::error(QUERN_ERROR_TOKENIZER,
                         "this program carries no chat template; give it a text to continue");
  if (!format.problem.empty())
    return Status::error(QUERN_ERROR_TOKENIZER, "this model cannot chat: " + format.problem);
  return {};
}

static Status render(const Model &model, const ChatFormat &format,
                     const std::vector<ChatMessage> &messages, std::vector<int32_t> &ids) {
  std::vector<ChatPiece> pieces;
  std::string error;
  if (!format.render(messages, /*answer=*/true, pieces, error))
    return Status::error(QUERN_ERROR_TOKENIZER, error);
  std::vector<TextSegment> segments;
  for (const ChatPiece &piece : pieces)
    segments.push_back({piece.text, piece.markup});
  ids = model.tokenizer->encode(segments, &error);
  if (!error.empty())
    return Status::error(QUERN_ERROR_TOKENIZER, "cannot tokenize: " + error);
  return {};
}

/// A line of standard input without its end; false at the end of the input.
static bool readLine(std::string &line) {
  line.clear();
  int c;
  while ((c = std::getc(stdin)) != EOF && c != '\n')
    line += char(c);
  return c != EOF || !line.empty();
}

Status chat(Model &model, const Options &options) {
  ChatFormat format;
  if (Status s = loadFormat(model, format); s.failed())
    return s;
  Generator generator(model, options);
  if (Status s = generator.start(); s.failed())
    return s;
  std::vector<ChatMessage> messages;
  if (options.system)
    messages.push_back({ChatRole::System, *options.system});

  bool terminal = isatty(STDIN_FILENO) && !options.json;
  // A prompt on the command line is the only turn.
  bool single = options.prompt || options.promptFile;
  if (terminal && !single)
    std::fprintf(stderr, "Type a message; an empty line or Ctrl-D ends the chat.\n");
  while (true) {
    std::string line;
    if (options.prompt) {
      line = *options.prompt;
    } else if (options.promptFile) {
      if (Status s = readText(*options.promptFile, line); s.failed())
        return s;
    } else {
      if (terminal) {
        std::fputs("> ", stdout);
        std::fflush(stdout);
      }
      if (!readLine(line) || (terminal && line.empty()))
        break;
    }
    messages.push_back({ChatRole::User, line});
    std::vector<int32_t> ids;
    if (Status s = render(model, format, messages, ids); s.failed())
      return s;
    Result result;
    if (Status s = generator.run(ids, !options.json, result); s.failed())
      return s;
    messages.push_back({ChatRole::Assistant, result.text});
    if (options.json)
      std::printf("%s\n", result.report(ids).print().c_str());
    else
      std::printf("\n");
    std::fflush(stdout);
    if (result.full)
      return Status::error(QUERN_ERROR_CONTEXT,
                           "the context of " + std::to_string(model.engine->program().context) +
                               " tokens is full");
    if (single)
      break;
  }
  if (terminal && !single)
    std::printf("\n");
  return {};
}

} // namespace quern::runtime::cli
