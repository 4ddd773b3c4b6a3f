//===- Tokenize.cpp - quern tokenize --------------------------------------===//
//
// Prints the token ids of a text, as the compiled program will see them.
//
//===----------------------------------------------------------------------===//
#include "Commands.h"
#include "quern/Import/ChatTemplate.h"
#include "quern/Import/ModelFile.h"
#include "quern/Import/Parsers.h"
#include "quern/Import/Tokenizer.h"
#include "quern/Runtime/Tokenizer.h"
#include "quern/Support/Json.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/MemoryBuffer.h"

using namespace llvm;

namespace {
const char help[] =
    "usage: quern tokenize MODEL [TEXT | -] [options]\n\n"
    "Prints the token ids of TEXT (`-` or nothing: of standard input). MODEL is a GGUF file (a\n"
    "vocabulary is enough), a Hugging Face directory, or a tokenizer.json.\n\n"
    "  --plain          take the text of special tokens as ordinary text\n"
    "  --add-special    put BOS and EOS around it as the model asks\n"
    "  --strings        the input holds a JSON string on each line; print the ids of each\n"
    "  --chat           each line holds {\"messages\": [{\"role\", \"content\"}, ...], \"answer\": "
    "true};\n"
    "                   print the text and the ids of each conversation\n"
    "  --decode         the other way: the input is ids, the output their text\n"
    "  --json           an object with `ids` and `pieces`\n";

/// One line of `--chat`: {"messages": [{"role", "content"}, ...], "answer": true}.
Error renderChat(StringRef line, const quern::runtime::ChatFormat &format,
                 const quern::runtime::Tokenizer &tokenizer) {
  using namespace quern::runtime;
  Expected<json::Value> input = quern::parseJson(line, "input");
  if (!input)
    return input.takeError();
  const json::Object *object = input->getAsObject();
  if (!object)
    return createStringError("expected an object with a list `messages`");
  Expected<std::vector<ChatMessage>> messages = quern::import::readMessages(*object);
  if (!messages)
    return messages.takeError();
  std::vector<ChatPiece> pieces;
  std::string error, text;
  if (!format.render(*messages, object->getBoolean("answer").value_or(true), pieces, error))
    return createStringError(error);
  std::vector<TextSegment> segments;
  for (const ChatPiece &p : pieces) {
    segments.push_back({p.text, p.markup});
    text += p.text;
  }
  json::Array ids;
  for (int32_t id : tokenizer.encode(segments, &error))
    ids.push_back(id);
  if (!error.empty())
    return createStringError(error);
  outs() << json::Value(json::Object{{"text", json::fixUTF8(text)}, {"ids", std::move(ids)}})
         << "\n";
  return Error::success();
}
} // namespace

int quern::tool::tokenize(int argc, char **argv) {
  SmallVector<StringRef> words;
  bool special = true, around = false, asJson = false, strings = false, decode = false,
       chat = false;
  for (int i = 1; i < argc; ++i) {
    StringRef a = argv[i];
    if (a == "--help" || a == "-h") {
      outs() << help;
      return Success;
    }
    if (a == "--plain")
      special = false;
    else if (a == "--add-special")
      around = true;
    else if (a == "--json")
      asJson = true;
    else if (a == "--strings")
      strings = true;
    else if (a == "--chat")
      chat = true;
    else if (a == "--decode")
      decode = true;
    else if (a.starts_with("--") && a != "--") {
      errs() << "quern: error: unknown option '" << a << "'\n\n" << help;
      return Usage;
    } else if (a != "--")
      words.push_back(a);
  }
  if (words.empty() || words.size() > 2) {
    errs() << help;
    return Usage;
  }
  Expected<import::ModelFile> model = import::openTokenizer(words[0]);
  if (!model)
    return fail(model.takeError());
  Expected<runtime::TokenizerData> data = import::readTokenizer(*model);
  if (!data)
    return fail(data.takeError());
  std::string error;
  std::vector<uint8_t> blob = data->serialize(error);
  std::unique_ptr<runtime::Tokenizer> tokenizer;
  if (error.empty())
    tokenizer = runtime::Tokenizer::load(blob.data(), blob.size(), error);
  if (!tokenizer)
    return fail(createStringError(words[0] + ": " + error));

  std::string text = words.size() == 2 ? words[1].str() : "-";
  if (text == "-") {
    ErrorOr<std::unique_ptr<MemoryBuffer>> input = MemoryBuffer::getSTDIN();
    if (!input)
      return fail(createStringError("standard input: " + input.getError().message()));
    text = (*input)->getBuffer().str();
  }

  if (decode) {
    std::vector<int32_t> ids;
    SmallVector<StringRef> parts;
    StringRef(text).split(parts, ' ', -1, false);
    for (StringRef p : parts) {
      int32_t id;
      if (p.trim().empty())
        continue;
      if (p.trim().getAsInteger(10, id))
        return fail(createStringError("'" + p.trim() + "' is no token id"));
      ids.push_back(id);
    }
    outs() << tokenizer->decode(ids, special);
    return Success;
  }

  auto print = [&](StringRef line) -> bool {
    std::vector<int32_t> ids = around ? tokenizer->prefix() : std::vector<int32_t>();
    std::vector<int32_t> body =
        tokenizer->encode(std::string_view(line.data(), line.size()), special, &error);
    ids.insert(ids.end(), body.begin(), body.end());
    if (around)
      for (int32_t id : tokenizer->suffix())
        ids.push_back(id);
    if (asJson) {
      json::Array list, pieces;
      for (int32_t id : ids) {
        list.push_back(id);
        pieces.push_back(json::fixUTF8(tokenizer->decode(id, true)));
      }
      outs() << json::Value(json::Object{{"ids", std::move(list)}, {"pieces", std::move(pieces)}})
             << "\n";
    } else {
      for (size_t i = 0; i < ids.size(); ++i)
        outs() << (i ? " " : "") << ids[i];
      outs() << "\n";
    }
    return error.empty();
  };
  if (!strings && !chat)
    return print(text) ? Success : fail(createStringError(words[0] + ": " + error));
  SmallVector<StringRef> all;
  StringRef(text).rtrim('\n').split(all, '\n');
  if (chat) {
    runtime::ChatFormat format = import::readChatFormat(*model);
    for (StringRef line : all)
      if (Error e = renderChat(line, format, *tokenizer))
        return fail(createStringError(words[0] + ": " + toString(std::move(e))));
    return Success;
  }
  for (size_t i = 0; i < all.size(); ++i) {
    Expected<json::Value> line = parseJson(all[i], "input");
    if (!line || !line->getAsString()) {
      if (!line)
        consumeError(line.takeError());
      return fail(createStringError("line " + Twine(i + 1) + " of the input is no JSON string"));
    }
    if (!print(*line->getAsString()))
      return fail(createStringError(words[0] + ": " + error));
  }
  return Success;
}
