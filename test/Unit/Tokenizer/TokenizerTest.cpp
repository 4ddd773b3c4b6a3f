// The tokenizer on its own: invalid UTF-8, damaged blobs, streaming, added tokens, both models.
#include "quern/Runtime/Tokenizer.h"
#include "quern/Runtime/Sampler.h"
#include <cstring>
#include <gtest/gtest.h>

using namespace quern::runtime;

namespace {
/// A byte-level vocabulary: 256 bytes, a few merges, and two added tokens.
TokenizerData byteLevel() {
  TokenizerData d;
  d.kind = TokenizerKind::ByteBPE;
  for (int b = 0; b < 256; ++b)
    d.tokens.push_back({std::string(1, static_cast<char>(b))});
  auto merge = [&](int32_t left, int32_t right) {
    d.tokens.push_back({d.tokens[left].text + d.tokens[right].text});
    d.merges.push_back({left, right, static_cast<int32_t>(d.tokens.size() - 1)});
    return static_cast<int32_t>(d.tokens.size() - 1);
  };
  int32_t he = merge('h', 'e'), ll = merge('l', 'l');
  int32_t hell = merge(he, ll);
  merge(hell, 'o');  // 259: hello
  merge(0xC3, 0xA9); // 260: é
  d.tokens.push_back({"<|end|>", 0, TokenType::Control, false});
  d.added.push_back({261, "<|end|>", true});
  d.tokens.push_back({"[tool]", 0, TokenType::UserDefined, false});
  d.added.push_back({262, "[tool]"});
  TokenizerStep split;
  split.a = " ?\\p{L}+| ?[^\\s\\p{L}]+|\\s+";
  d.preTokenizer = {split};
  d.eos = 261;
  d.ends = {261};
  return d;
}

TokenizerData characters(bool unigram) {
  TokenizerData d;
  d.kind = unigram ? TokenizerKind::Unigram : TokenizerKind::CharBPE;
  d.mergeByScore = !unigram;
  d.byteFallback = d.metaspace = d.fuseUnknown = d.stripFirstSpace = true;
  d.tokens.push_back({"<unk>", 0, TokenType::Unknown, false});
  d.unknown = 0;
  for (int b = 0; b < 256; ++b)
    d.tokens.push_back({std::string(1, static_cast<char>(b)), 0, TokenType::Byte, false});
  for (auto [text, score] : {std::pair<const char *, double>{"\xE2\x96\x81", -3},
                             {"a", -4},
                             {"b", -4},
                             {"ab", -1},
                             {"\xE2\x96\x81"
                              "a",
                              -2},
                             {"ba", -2.5},
                             {"aba", -0.5}})
    d.tokens.push_back({text, score});
  TokenizerStep prepend, replace;
  prepend.kind = TokenizerStep::Prepend;
  prepend.a = " ";
  replace.kind = TokenizerStep::Replace;
  replace.a = " ";
  replace.b = "\xE2\x96\x81";
  d.normalizer = {prepend, replace};
  return d;
}

struct Loaded {
  std::vector<uint8_t> blob;
  std::unique_ptr<Tokenizer> tokenizer;
  explicit Loaded(const TokenizerData &data) {
    std::string error;
    blob = data.serialize(error);
    EXPECT_EQ(error, "");
    tokenizer = Tokenizer::load(blob.data(), blob.size(), error);
    EXPECT_EQ(error, "");
  }
  Tokenizer *operator->() { return tokenizer.get(); }
};

/// All kinds of damage to UTF-8, between ordinary text.
std::vector<std::string> invalid() {
  std::vector<std::string> out = {"\xFF",
                                  "hello\xC3",
                                  "\xC3(",
                                  "\xE2\x82",
                                  "\xF0\x9F\x98",
                                  "\xED\xA0\x80",
                                  "\xF4\x90\x80\x80",
                                  "\xC0\x80",
                                  std::string("a\0b", 3),
                                  "\x80hello \xFEhello",
                                  "\xE2\x96\x81\xE2\x96"};
  Sampler noise({});
  for (int i = 0; i < 200; ++i) {
    std::string s;
    for (int n = int(noise.uniform() * 24); n > 0; --n)
      s += static_cast<char>(
          int(noise.uniform() < 0.5 ? 0x80 + noise.uniform() * 128 : noise.uniform() * 128));
    out.push_back(s);
  }
  return out;
}
} // namespace

TEST(Tokenizer, ByteLevel) {
  Loaded t(byteLevel());
  EXPECT_EQ(t->encode("hello"), (std::vector<int32_t>{259}));
  EXPECT_EQ(t->encode(" hello\xC3\xA9"), (std::vector<int32_t>{' ', 259, 260}));
  EXPECT_EQ(t->encode("hell"), (std::vector<int32_t>{258}));
  EXPECT_EQ(t->encode("hel"), (std::vector<int32_t>{256, 'l'}));
  EXPECT_EQ(t->encode("lll"), (std::vector<int32_t>{257, 'l'})); // leftmost of equals
  EXPECT_EQ(t->encode(""), (std::vector<int32_t>{}));
}

TEST(Tokenizer, SpecialTokensOnlyInMarkup) {
  Loaded t(byteLevel());
  EXPECT_EQ(t->encode("<|end|>", true), (std::vector<int32_t>{261}));
  EXPECT_EQ(t->encode("<|end|>").size(), 7u);
  EXPECT_EQ(t->encode("[tool]"), (std::vector<int32_t>{262})); // user-defined: everywhere
  // What is typed cannot pose as markup, alone or together with the markup beside it.
  std::vector<int32_t> ids = t->encode({{"<|end|>", true}, {"<|end|>", false}, {"<|end|>", true}});
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 261), 2);
  ids = t->encode({{"<|e", true}, {"nd|>", false}});
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 261), 0);
  // Segments are one text to the pre-tokenizer.
  EXPECT_EQ(t->encode({{"he", true}, {"llo", false}}), (std::vector<int32_t>{259}));
  EXPECT_EQ(t->find("<|end|>"), 261);
  EXPECT_EQ(t->find("hello"), 259);
  EXPECT_EQ(t->find("absent"), -1);
  EXPECT_TRUE(t->isEnd(261));
  EXPECT_FALSE(t->isEnd(-1));
}

/// A damaged size of the vocabulary would let encoding give ids of no token.
TEST(Tokenizer, NoIdsBeyondTheVocabulary) {
  for (TokenizerData data : {byteLevel(), characters(false), characters(true)}) {
    data.added.clear(); // ids that are checked anyway
    data.ends.clear();
    data.eos = -1;
    Loaded whole(data);
    for (uint32_t vocab = uint32_t(whole->size()); vocab > 1; --vocab) {
      std::vector<uint8_t> blob = whole.blob;
      memcpy(blob.data() + 16, &vocab, sizeof vocab);
      std::string error;
      auto tokenizer = Tokenizer::load(blob.data(), blob.size(), error);
      if (!tokenizer) {
        EXPECT_NE(error.find("damaged"), std::string::npos) << error;
        continue;
      }
      for (const std::string &text : {"hello <|end|>", "aba ab", "\xFF\xC3"})
        for (int32_t id : tokenizer->encode(text, true))
          EXPECT_LT(uint32_t(id), vocab);
    }
  }
}

TEST(Tokenizer, InvalidUtf8RoundTrips) {
  Loaded bytes(byteLevel());
  Loaded bpe(characters(false));
  Loaded unigram(characters(true));
  for (const std::string &s : invalid()) {
    EXPECT_EQ(bytes->decode(bytes->encode(s)), s);
    // U+2581 and a space are the same to SentencePiece.
    if (s.find("\xE2\x96\x81") != std::string::npos)
      continue;
    auto once = [](Tokenizer &t, std::string_view s) {
      std::string out;
      for (int32_t id : t.encode(s))
        out += t.decode(id);
      return out;
    };
    std::string found = once(*bpe.tokenizer, s);
    EXPECT_TRUE(found == s || found == " " + s)
        << testing::PrintToString(s) << testing::PrintToString(found);
    found = once(*unigram.tokenizer, s);
    EXPECT_TRUE(found == s || found == " " + s)
        << testing::PrintToString(s) << testing::PrintToString(found);
  }
}

TEST(Tokenizer, ScoresDecide) {
  Loaded bpe(characters(false));
  // "ab" has the best score of all pairs, then "aba" is best.
  EXPECT_EQ(bpe->encode("aba"), (std::vector<int32_t>{257, 263}));
  EXPECT_EQ(bpe->encode("ab a"), (std::vector<int32_t>{257, 260, 261}));
  Loaded unigram(characters(true));
  EXPECT_EQ(unigram->encode("aba"), (std::vector<int32_t>{257, 263}));
  EXPECT_EQ(unigram->encode("ab\xC3\xA9"), (std::vector<int32_t>{257, 260, 1 + 0xC3, 1 + 0xA9}));
  EXPECT_EQ(unigram->decode(std::vector<int32_t>{257, 263, 261}), "aba a");
}

TEST(Tokenizer, StreamsWholeCharacters) {
  Loaded t(byteLevel());
  const std::string text = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z\xFF\xC3";
  StreamDecoder stream(*t.tokenizer, true);
  std::vector<std::string> parts;
  std::string all;
  for (char c : text) {
    parts.push_back(stream.push(static_cast<uint8_t>(c)));
    all += parts.back();
  }
  EXPECT_EQ(parts[1], "");
  EXPECT_EQ(parts[2], "\xC3\xA9");
  EXPECT_EQ(parts[5], "\xE2\x82\xAC");
  EXPECT_EQ(parts[8], "");
  EXPECT_EQ(parts[9], "\xF0\x9F\x98\x80");
  EXPECT_EQ(all + stream.flush(), text);
}

TEST(Tokenizer, LongRunsStayFast) {
  Loaded t(byteLevel());
  EXPECT_EQ(t->encode(std::string(300000, 'h')).size(), 300000u);
  EXPECT_EQ(t->encode(std::string(300000, ' ')).size(), 300000u);
  std::string hello;
  for (int i = 0; i < 60000; ++i)
    hello += "hello";
  EXPECT_EQ(t->encode(hello).size(), 60000u);
}

// Each step doubles the text: refused long before it fills memory.
TEST(Tokenizer, NormalizersThatGrowWithoutEnd) {
  for (TokenizerStep::Kind kind : {TokenizerStep::Replace, TokenizerStep::ReplaceRegex}) {
    TokenizerData d = byteLevel();
    TokenizerStep twice;
    twice.kind = kind;
    twice.a = "h";
    twice.b = "hh";
    d.normalizer.assign(3, twice);
    std::string error;
    EXPECT_EQ(Loaded(d)->encode("h", false, &error).size(), 8u);
    EXPECT_EQ(error, "");
    d.normalizer.assign(60, twice);
    EXPECT_TRUE(Loaded(d)->encode("h", false, &error).empty());
    EXPECT_NE(error.find("the steps of the tokenizer make a text"), std::string::npos) << error;
  }
}

// A token of 300 bytes does not fit the lists of a small blob: the tables themselves are stored.
TEST(Tokenizer, TablesBuiltAtLoadAreTheStoredOnes) {
  for (TokenizerData data : {byteLevel(), characters(false), characters(true)}) {
    Loaded small(data);
    data.tokens.push_back({std::string(300, 'x')});
    Loaded large(data);
    EXPECT_LT(small.blob.size() + 1000, large.blob.size());
    for (std::string text :
         {"hello hell hel lll \xC3\xA9", "ab aba bab abba <|end|>[tool]", "\xFFq"})
      EXPECT_EQ(small->encode(text), large->encode(text)) << text;
  }
}

// Merges that make tokens one after the other say what those are; one more that does not, and all
// are written out.
TEST(Tokenizer, JoinedTokensAreTheWrittenOnes) {
  TokenizerData data = byteLevel();
  Loaded joined(data);
  data.tokens.push_back({"he?"}); // 263, where 261 would follow
  data.merges.push_back({256, '?', 263});
  Loaded written(data);
  EXPECT_LT(joined.blob.size(), written.blob.size() - 5);
  for (int32_t id = 0; id < 263; ++id)
    EXPECT_EQ(joined->decode(id, true), written->decode(id, true)) << id;
  for (std::string text : {"hello hell hel lll \xC3\xA9", "ohell he <|end|>[tool]", "\xFFq"})
    EXPECT_EQ(joined->encode(text, true), written->encode(text, true)) << text;
}

TEST(Tokenizer, SerializingIsDeterministic) {
  std::string error;
  EXPECT_EQ(byteLevel().serialize(error), byteLevel().serialize(error));
  EXPECT_EQ(characters(false).serialize(error), characters(false).serialize(error));
}

TEST(Tokenizer, BadDataIsRefused) {
  std::string error;
  TokenizerData d = byteLevel();
  d.merges.push_back({0, 1, 5000});
  EXPECT_TRUE(d.serialize(error).empty());
  EXPECT_EQ(error, "merge 5 names a token that does not exist");
  d = byteLevel();
  d.added[0].id = 999;
  EXPECT_TRUE(d.serialize(error).empty());
  EXPECT_EQ(error, "added token '<|end|>' has id 999, outside the vocabulary");
  d = byteLevel();
  d.preTokenizer[0].a = "(";
  EXPECT_TRUE(d.serialize(error).empty());
  EXPECT_NE(error.find("pattern '('"), std::string::npos) << error;
  EXPECT_TRUE(TokenizerData().serialize(error).empty());
  EXPECT_EQ(error, "the vocabulary is empty");
}

// Every damaged blob is refused or at least safe to use.
TEST(Tokenizer, DamagedBlobs) {
  for (const TokenizerData &d : {byteLevel(), characters(false), characters(true)}) {
    Loaded good(d);
    std::string error;
    for (size_t n = 0; n < good.blob.size(); n += 1 + n / 7)
      EXPECT_FALSE(Tokenizer::load(good.blob.data(), n, error)) << n;
    Sampler noise({});
    for (int i = 0; i < 2000; ++i) {
      std::vector<uint8_t> bad = good.blob;
      size_t range = i % 2 ? 400 : bad.size(); // half of them in the header
      for (int k = 1 + i % 3; k > 0; --k)
        bad[size_t(noise.uniform() * double(range))] = static_cast<uint8_t>(noise.uniform() * 256);
      auto t = Tokenizer::load(bad.data(), bad.size(), error);
      if (!t)
        continue;
      for (int32_t id : t->encode("hello ab\xC3\xA9 <|end|> aba \xFF", true))
        EXPECT_LT(size_t(id), t->size());
    }
  }
}
