// Fuzzes the loader of serialized tokenizers: a good blob with changes, used if it is accepted.
#include "Generator.h"
#include "quern/Runtime/Chat.h"
#include "quern/Runtime/Tokenizer.h"

using namespace quern::runtime;
using quern::fuzz::Decisions;

namespace {
/// `joined`: merges make tokens one after the other, which the blob leaves out.
TokenizerData sample(TokenizerKind kind, bool joined) {
  TokenizerData d;
  d.kind = kind;
  bool bytes = kind == TokenizerKind::ByteBPE;
  for (int b = 0; b < 256; ++b)
    d.tokens.push_back(
        {std::string(1, char(b)), 0, bytes ? TokenType::Normal : TokenType::Byte, bytes});
  for (const char *t : {"\u2581", "a", "b", "ab", "\u2581a", "ba", "aba"})
    d.tokens.push_back({t, -double(d.tokens.size()), TokenType::Normal, !bytes});
  d.tokens.push_back({"<s>", 0, TokenType::Control, false});
  d.added.push_back({263, "<s>", true, false, true, true, true});
  if (joined) {
    d.tokens.insert(d.tokens.end(), {{"ab"}, {"aba"}, {"abaab"}});
    d.merges = {{'a', 'b', 264}, {264, 'a', 265}, {265, 264, 266}};
  } else if (bytes) {
    d.merges = {{'a', 'b', 'c'}, {'c', 'a', 'd'}};
  }
  d.mergeByScore = kind == TokenizerKind::CharBPE;
  d.byteFallback = d.metaspace = true;
  TokenizerStep replace, split;
  replace.kind = TokenizerStep::Replace;
  replace.a = " ";
  replace.b = "\u2581";
  split.a = "\\p{L}+|\\s+";
  if (!bytes)
    d.normalizer = {replace};
  d.preTokenizer = {split};
  d.prefix = {263};
  d.ends = {263};
  return d;
}

const std::vector<uint8_t> &blob(unsigned kind) {
  static std::vector<uint8_t> blobs[4];
  std::string error;
  if (blobs[kind].empty())
    blobs[kind] = sample(TokenizerKind(kind % 3), kind == 3).serialize(error);
  return blobs[kind];
}

quern::fuzz::Tally tally("tokenizer blob");
} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  Decisions d(bytes, size);
  ++tally.runs;
  std::vector<uint8_t> b = blob(d.below(4));
  for (unsigned n = 1 + d.below(6); n > 0 && !d.done(); --n) {
    size_t at = (uint64_t(d.byte()) << 16 | uint64_t(d.byte()) << 8 | d.byte()) % b.size();
    if (d.below(2))
      at %= 400; // the header decides most
    uint64_t value = d.count(255);
    memcpy(b.data() + at, &value, std::min<size_t>(size_t(1) << d.below(4), b.size() - at));
  }
  if (d.rarely(20))
    b.resize(d.word() % (b.size() + 1));
  std::string error;
  if (b.size() >= 8 && memcmp(b.data(), "QRNTOK04", 8) == 0)
    ++tally.header;
  ChatFormat format;
  format.parse(bytes, size);
  auto tokenizer = Tokenizer::load(b.data(), b.size(), error);
  if (!tokenizer)
    return 0;
  ++tally.accepted;
  for (int32_t id : tokenizer->encode(d.rest() + "aba <s> \u2581ab\xFF", true)) {
    if (id < 0 || size_t(id) >= tokenizer->size())
      abort();
    tokenizer->decode(id, true);
  }
  return 0;
}
