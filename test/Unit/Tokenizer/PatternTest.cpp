// Programs of expressions against PCRE2: the same matches at every place, on random strings.
#include "../../../lib/Runtime/TokenizerPattern.h"
#include "../../../lib/Runtime/TokenizerUnicode.h"
#include <gtest/gtest.h>
#include <random>
#include <sys/resource.h>

using namespace quern::runtime;

namespace {
/// Expressions of published tokenizers, then one for each construct.
const char *const expressions[] = {
    // gpt-2
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
    // llama-bpe
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    // cl100k
    "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}++|\\p{N}{1,3}+| ?[^\\s\\p{L}\\p{N}]++"
    "[\\r\\n]*+|\\s++$|\\s*[\\r\\n]|\\s+(?!\\S)|\\s",
    // o200k
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+"
    "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}|"
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    "\\p{N}", "\\p{N}+", "\\p{M}", "[\\r\\n]", "\\s?\\p{P}+", "\\w+|[^\\w\\s]+",
    "[!-/:-@\\[-`{-~\\p{P}]", "a*?b", "(a|b|ab)+c", "(?:ab?){2,3}a", "(?>a+|b)b", "(?:a|b)++ ",
    "a(?=b)", "a+(?!b)", "^a+", "b+$", "(?i)k|s", "a(?i)b|a", ".b", "[]a]+", "[^]a]+",
    "[[:alpha:]]+", "(?:a?){3}b", "(?:a|(?:b|c){2})*?x", "x{0}a", "a{2,}b", "\\x{e9}+|\\x{4e2d}",
    "(?:)a|", "(?=a)(?:ab|a)", "(?:a{0,2}b)+?c", "\\S+", "\\D", "[\\d\\s]+"};

std::vector<std::string> pieces() {
  std::vector<std::string> out;
  for (char c : std::string_view("aabbbccxkKsStTlLvVeErRdDmM'' \n\r\t019-_/.,]!"))
    out.push_back(std::string(1, c));
  // Letters of several cases and scripts, marks, digits, spaces, and edges of the code space.
  for (uint32_t c :
       {0xE9,   0x130,  0x131,    0x17F,  0x212A, 0x301,  0x3B1,  0x1C5,  0x660,   0xB2,    0x2160,
        0xA0,   0x85,   0x2028,   0x3000, 0x200B, 0x200C, 0x4E2D, 0x3042, 0x1F600, 0x1D7D8, 0xD7FF,
        0xE000, 0xFFFD, 0x10FFFF, 0x7F,   0x80,   0x7FF,  0x800,  0xFFFF, 0x10000}) {
    out.emplace_back();
    unicode::appendCharacter(out.back(), c);
  }
  return out;
}

TEST(Pattern, ProgramsMatchAsPcre2) {
  std::mt19937 random(1);
  std::vector<std::string> parts = pieces();
  for (const char *expression : expressions) {
    SCOPED_TRACE(expression);
    PatternProgram program;
    ASSERT_TRUE(compilePattern(expression, program));
    std::vector<uint8_t> bytes = program.serialize();
    Pattern own, reference;
    std::string error;
    ASSERT_TRUE(own.load(bytes.data(), bytes.size()));
    ASSERT_TRUE(reference.compile(expression, error)) << error;
    Matcher a, b;
    for (int round = 0; round < 400; ++round) {
      std::string text;
      size_t kinds = round % 3 ? parts.size() : 8; // also long runs of few characters
      for (size_t n = random() % 24; n; --n)
        text += parts[random() % kinds];
      for (size_t from = 0; from <= text.size();) {
        size_t begin[2] = {}, end[2] = {};
        MatchResult one = a.find(own, text, from, begin[0], end[0]);
        MatchResult two = b.find(reference, text, from, begin[1], end[1]);
        ASSERT_EQ(one, two) << text << " from " << from;
        if (one != MatchResult::Found)
          break;
        ASSERT_EQ(begin[0], begin[1]) << text << " from " << from;
        ASSERT_EQ(end[0], end[1]) << text << " from " << from;
        from =
            std::max(end[0], from + std::max<size_t>(1, unicode::characterLength(
                                                            std::string_view(text).substr(from))));
      }
    }
  }
}

TEST(Pattern, LeavesTheRestToPcre2) {
  for (const char *expression : {"(?<=a)b", "(a)\\1", "\\bword\\b", "(?:a?)*b", "a{,3}", "(?s:.)",
                                 "(?<name>a)", "(*FAIL)", "a\\Kb", "\\X", "["}) {
    PatternProgram program;
    EXPECT_FALSE(compilePattern(expression, program)) << expression;
  }
}

// A program that no compiler makes: each step opens another way. It ends before memory does.
TEST(Pattern, EndlessChoicesFail) {
  PatternProgram program;
  program.code = {{PatternProgram::Split, 0, 1}, {PatternProgram::Match}};
  std::vector<uint8_t> bytes = program.serialize();
  Pattern endless;
  ASSERT_TRUE(endless.load(bytes.data(), bytes.size()));
  auto peak = [] {
    rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss; // KiB
  };
  long before = peak();
  Matcher matcher;
  size_t begin = 0, end = 0;
  EXPECT_EQ(matcher.find(endless, "a", 0, begin, end), MatchResult::Failed);
  EXPECT_LT(peak() - before, 300 << 10); // half of what all steps would take, also under sanitizers
}

TEST(Pattern, RefusesDamagedPrograms) {
  PatternProgram program;
  ASSERT_TRUE(compilePattern("(?:a|b)++[^c]*(?!d)$", program));
  const std::vector<uint8_t> good = program.serialize();
  std::mt19937 random(2);
  std::string text = "ab";
  for (size_t n = 0; n < 1000; ++n)
    text += "abcd \n"[random() % 6];
  size_t loaded = 0;
  for (size_t at = 0; at < good.size(); ++at) {
    Pattern cut;
    EXPECT_FALSE(cut.load(good.data(), at));
    for (uint8_t value : {0, 1, 2, 3, 5, 6, 7, 9, 127, 128, 255}) {
      std::vector<uint8_t> bad = good;
      bad[at] = value;
      Pattern damaged;
      if (!damaged.load(bad.data(), bad.size()))
        continue;
      ++loaded; // another program: it ends, and inside the text
      Matcher matcher;
      size_t begin = 0, end = 0;
      if (matcher.find(damaged, text, 0, begin, end) == MatchResult::Found)
        EXPECT_TRUE(begin <= end && end <= text.size());
    }
  }
  EXPECT_GT(loaded, 0u);
}
} // namespace
