//===- Conversations.cpp - Conversations to calibrate with ----------------===//
//
// See Conversations.h. Special tokens are found in what the template writes, not in what people
// wrote, as when the model chats.
//
//===----------------------------------------------------------------------===//
#include "Conversations.h"
#include "ModelSource.h"
#include "quern/Import/ChatTemplate.h"
#include "quern/Support/Json.h"
#include "quern/Import/Tokenizer.h"
#include "quern/Runtime/Tokenizer.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/MemoryBuffer.h"
#include <algorithm>
#include <cmath>

using namespace quern;
using namespace quern::quantize;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

namespace {
struct Chat {
  runtime::ChatFormat format;
  std::vector<uint8_t> blob; ///< the tokenizer points into it
  std::unique_ptr<runtime::Tokenizer> tokenizer;
};
} // namespace

static Expected<Chat> openChat(StringRef path) {
  Expected<ModelSource> source = ModelSource::open(path);
  if (!source)
    return source.takeError();
  Chat out;
  std::string error;
  out.blob = std::move(source->tokenizer);
  if (!source->isModule) {
    out.format = import::readChatFormat(source->model);
    Expected<runtime::TokenizerData> data = import::readTokenizer(source->model);
    if (!data)
      return data.takeError();
    out.blob = data->serialize(error);
  } else if (!out.format.parse(source->chat.data(), source->chat.size())) {
    error = "its chat format is damaged";
  }
  if (!out.format.problem.empty())
    return createStringError(path + ": " + out.format.problem);
  if (error.empty())
    out.tokenizer = runtime::Tokenizer::load(out.blob.data(), out.blob.size(), error);
  if (!out.tokenizer)
    return createStringError(path + ": " + error);
  return out;
}

static Expected<std::vector<int32_t>> encode(const Chat &chat, StringRef line, StringRef path) {
  Expected<llvm::json::Value> value = parseJson(line, path);
  if (!value)
    return value.takeError();
  const llvm::json::Object *object = value->getAsObject();
  if (!object)
    return createStringError("expected an object with a list `messages`");
  auto messages = import::readMessages(*object);
  if (!messages)
    return messages.takeError();
  std::vector<runtime::ChatPiece> pieces;
  std::string error;
  // Dates stay as the template names them: the same text every day.
  if (!chat.format.render(*messages, /*answer=*/false, pieces, error,
                          runtime::ChatFormat::keepDates))
    return createStringError(error);
  std::vector<runtime::TextSegment> segments;
  for (const runtime::ChatPiece &piece : pieces)
    segments.push_back({piece.text, piece.markup});
  std::vector<int32_t> ids = chat.tokenizer->encode(segments, &error);
  if (!error.empty())
    return createStringError(error);
  return ids;
}

Expected<std::vector<std::vector<int32_t>>>
quern::quantize::readConversations(StringRef model, const TextSource &source, int64_t window,
                                   llvm::ArrayRef<int32_t> prefix) {
  Expected<Chat> chat = openChat(model);
  if (!chat)
    return chat.takeError();
  auto buffer = llvm::MemoryBuffer::getFile(source.path, /*IsText=*/false,
                                            /*RequiresNullTerminator=*/false);
  if (!buffer)
    return createStringError("cannot read '" + source.path + "': " + buffer.getError().message());
  std::vector<std::pair<size_t, StringRef>> lines; // by number
  StringRef rest = (*buffer)->getBuffer();
  for (size_t number = 1; !rest.empty(); ++number) {
    auto [line, after] = rest.split('\n');
    if (!line.trim().empty())
      lines.emplace_back(number, line);
    rest = after;
  }
  if (lines.empty())
    return createStringError("'" + source.path + "' has no conversation");
  size_t count = lines.size(),
         wanted = std::clamp<size_t>(size_t(std::llround(source.share * double(count))), 1, count);
  std::vector<std::vector<int32_t>> out;
  for (size_t i = 0; i < wanted; ++i) {
    auto [number, line] = lines[i * count / wanted];
    Expected<std::vector<int32_t>> ids = encode(*chat, line, source.path);
    if (!ids)
      return createStringError("'" + source.path + "' line " + llvm::Twine(number) + ": " +
                               llvm::toString(ids.takeError()));
    llvm::ArrayRef<int32_t> all = *ids;
    if (all.take_front(prefix.size()) == prefix)
      all = all.drop_front(prefix.size());
    for (; all.size() >= 2; all = all.drop_front(std::min(all.size(), size_t(window)))) {
      out.emplace_back(prefix.begin(), prefix.end());
      llvm::append_range(out.back(), all.take_front(size_t(window)));
    }
  }
  if (out.empty())
    return createStringError("'" + source.path + "' has no conversation of two tokens or more");
  return out;
}
