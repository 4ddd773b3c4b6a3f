//===- TextOptions.cpp - Texts to calibrate with --------------------------===//
//
// See TextOptions.h.
//
//===----------------------------------------------------------------------===//
#include "TextOptions.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/FileSystem.h"

using namespace quern;

/// FILE or FILE=SHARE; a file whose name reads so goes first.
static llvm::Expected<quantize::TextSource> parseSource(llvm::StringRef option,
                                                        llvm::StringRef text) {
  quantize::TextSource source{text.str()};
  source.chat = option == "--chat";
  if (text.empty())
    return llvm::createStringError("'" + option + "' needs a file");
  auto [path, share] = text.rsplit('=');
  if (share.empty() || llvm::sys::fs::exists(text))
    return source;
  source.path = path.str();
  if (path.empty() || share.getAsDouble(source.share) || !(source.share > 0 && source.share <= 1))
    return llvm::createStringError("'" + option +
                                   "' needs FILE or FILE=SHARE with a share in (0, 1], not '" +
                                   text + "'");
  return source;
}

void tool::addTextOptions(Arguments &arguments, std::vector<quantize::TextSource> &texts) {
  for (llvm::StringRef option : {"--text", "--chat"})
    arguments.option(option, [&texts, option](llvm::StringRef text) -> llvm::Error {
      llvm::Expected<quantize::TextSource> source = parseSource(option, text);
      if (!source)
        return source.takeError();
      // Texts before conversations, so that a recipe, which lists each by itself, means the same.
      auto place = source->chat ? texts.end() : llvm::find_if(texts, [](const auto &other) {
        return other.chat;
      });
      texts.insert(place, std::move(*source));
      return llvm::Error::success();
    });
}
