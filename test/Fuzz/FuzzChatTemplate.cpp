// Fuzzes the parser and the interpreter of chat templates, and what is made of them.
#include "TemplateGrammar.h"
#include "quern/Import/ChatTemplate.h"
#include "llvm/Support/Error.h"
#include "llvm/Support/xxhash.h"

using quern::fuzz::Decisions;
using namespace quern::runtime;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  static quern::fuzz::Tally tally("chat template");
  // Real templates may serve as corpus: they are taken as they are.
  std::string source(reinterpret_cast<const char *>(bytes), size);
  Decisions d(bytes, size);
  // Deriving a format renders some fifty times, and an endless template does all the work it may:
  // few inputs are given either. Chosen by all bytes, since the fuzzer keeps what leads to more
  // code.
  uint64_t lot = llvm::xxh3_64bits(llvm::ArrayRef(bytes, size));
  bool derive = lot % 50 == 0;
  uint64_t work = lot % 500 == 1 ? quern::import::chatTemplateWork : derive ? 60000 : 5000;
  if (source.find("{%") == std::string::npos && source.find("{{") == std::string::npos) {
    source = quern::fuzz::TemplateGrammar(d).whole();
    quern::fuzz::spoil(d, source, 16);
  }
  ++tally.runs;
  std::vector<ChatMessage> messages = {{ChatRole::User, "one\n"}, {ChatRole::Assistant, " two"}};
  llvm::Expected<std::string> once =
      quern::import::renderChatTemplate(source, "<s>", "</s>", messages, true, work);
  if (!once) {
    // What is refused when it is rendered has passed the parser.
    std::string message = llvm::toString(once.takeError());
    quern::fuzz::show(message);
    tally.header += message.find("the chat template,") != 0;
    return 0;
  }
  ++tally.header;
  ++tally.accepted;
  if (!derive)
    return 0;
  static quern::fuzz::Tally formats("chat format");
  ++formats.runs;
  ChatFormat format = quern::import::chatFormat(source, "<s>", "</s>", work), again;
  formats.header += format.problem.empty();
  formats.accepted += format.problem.empty();
  std::vector<uint8_t> stored = format.serialize();
  if (!again.parse(stored.data(), stored.size()) || again.serialize() != stored)
    abort();
  std::vector<ChatPiece> pieces;
  std::string why;
  format.render(messages, false, pieces, why, ChatFormat::keepDates);
  return 0;
}
