//===- Texts.cpp - Windows of texts ---------------------------------------===//
//
// See Calibrate.h.
//
//===----------------------------------------------------------------------===//
#include "Conversations.h"
#include "quern/Quantize/Calibrate.h"
#include "quern/Quantize/Predictor.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/ConvertUTF.h"
#include "llvm/Support/MemoryBuffer.h"
#include <algorithm>
#include <cmath>
#include <limits>

using namespace quern::quantize;
using llvm::createStringError;
using llvm::Expected;
using llvm::StringRef;

/// The ids of conversations, one after the other, each without what every window begins with.
static Expected<std::vector<int32_t>> readJoined(StringRef model, TextSource source,
                                                 llvm::ArrayRef<int32_t> prefix) {
  source.share = 1; // of windows, not of conversations
  auto read = readConversations(model, source, std::numeric_limits<int64_t>::max(), prefix);
  if (!read)
    return read.takeError();
  std::vector<int32_t> ids;
  for (const std::vector<int32_t> &conversation : *read)
    llvm::append_range(ids, llvm::ArrayRef(conversation).drop_front(prefix.size()));
  return ids;
}

/// The ids of a text.
static Expected<std::vector<int32_t>> readTokens(Predictor &program, StringRef path) {
  std::unique_ptr<llvm::MemoryBuffer> buffer;
  StringRef text = builtinText();
  if (!path.empty()) {
    auto read = llvm::MemoryBuffer::getFile(path, /*IsText=*/false,
                                            /*RequiresNullTerminator=*/false);
    if (!read)
      return createStringError("cannot read '" + path + "': " + read.getError().message());
    buffer = std::move(*read);
    text = buffer->getBuffer();
  }
  auto *begin = reinterpret_cast<const llvm::UTF8 *>(text.data());
  if (!llvm::isLegalUTF8String(&begin, begin + text.size()))
    return createStringError("'" + path + "' is not valid UTF-8 at byte " +
                             llvm::Twine(reinterpret_cast<const char *>(begin) - text.data()));
  return program.tokenize(text);
}

Expected<Windows> quern::quantize::readWindows(Predictor &program, StringRef path, int64_t window,
                                               uint64_t limit) {
  return readWindows(program, TextSource{path.str()}, window, limit);
}

Expected<Windows> quern::quantize::readWindows(Predictor &program, llvm::ArrayRef<TextSource> texts,
                                               int64_t window, uint64_t limit, StringRef model) {
  static const TextSource builtin;
  if (texts.empty())
    texts = builtin;
  Expected<std::vector<int32_t>> prefix = program.prefix();
  if (!prefix)
    return prefix.takeError();
  Windows out;
  out.prefix = std::move(*prefix);
  int64_t room = program.context() - int64_t(out.prefix.size());
  out.window = window ? window : std::min<int64_t>(512, program.context() / 2);
  if (out.window < 2 || out.window > room)
    return createStringError("a window of " + llvm::Twine(out.window) +
                             " tokens does not fit the context of " +
                             llvm::Twine(program.context()));
  std::vector<std::vector<int32_t>> ids;
  std::vector<uint64_t> wanted;
  uint64_t all = 0;
  for (const TextSource &source : texts) {
    Expected<std::vector<int32_t>> read = source.chat
                                              ? readJoined(model, source, out.prefix)
                                              : readTokens(program, source.path);
    if (!read)
      return read.takeError();
    uint64_t count = read->size() / uint64_t(out.window);
    if (count == 0)
      return createStringError("'" + source.path + "' has " + llvm::Twine(read->size()) +
                               " tokens, fewer than one window of " + llvm::Twine(out.window));
    wanted.push_back(
        std::clamp<uint64_t>(uint64_t(std::llround(source.share * double(count))), 1, count));
    all += wanted.back();
    ids.push_back(std::move(*read));
  }
  uint64_t most = limit ? std::max<uint64_t>(limit / uint64_t(out.window), 1) : all;
  for (auto [own, windows] : llvm::zip(ids, wanted)) {
    uint64_t count = own.size() / uint64_t(out.window);
    if (most < all)
      windows = std::max<uint64_t>(windows * most / all, 1);
    for (uint64_t i = 0; i < windows; ++i) {
      auto from = own.begin() + long(i * count / windows * uint64_t(out.window));
      out.tokens.insert(out.tokens.end(), from, from + long(out.window));
    }
  }
  return out;
}
