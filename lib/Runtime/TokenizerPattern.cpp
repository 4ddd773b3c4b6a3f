//===- TokenizerPattern.cpp - Matching a pattern's program ----------------===//
//
// Reads a program with every operand checked, and runs it by backtracking, in the
// order and with the results of a Perl-compatible matcher.
//
//===----------------------------------------------------------------------===//
#include "TokenizerPattern.h"
#include "TokenizerUnicode.h"
#include <algorithm>

namespace quern::runtime {

// A reference here takes no object out of an archive.
extern "C" [[gnu::weak]] const PatternEngine quern_pattern_engine;

const PatternEngine *patternEngine() { return &quern_pattern_engine; }

using Op = PatternProgram::Op;

void PatternProgram::CharacterClass::setAscii() {
  for (uint32_t c = 0; c < 128; ++c)
    if ((std::upper_bound(boundaries.begin(), boundaries.end(), c) - boundaries.begin()) & 1)
      ascii[c / 64] |= uint64_t(1) << c % 64;
}

bool PatternProgram::CharacterClass::contains(uint32_t c) const {
  if (c < 128)
    return ascii[c / 64] >> c % 64 & 1;
  return (std::upper_bound(boundaries.begin(), boundaries.end(), c) - boundaries.begin()) & 1;
}

namespace {
uint32_t zigzag(int32_t v) { return uint32_t(v) << 1 ^ uint32_t(v >> 31); }
int32_t unzigzag(uint32_t v) { return int32_t(v >> 1 ^ (~(v & 1) + 1)); }

void put(std::vector<uint8_t> &out, uint32_t v) {
  for (; v >= 128; v >>= 7)
    out.push_back(uint8_t(v | 128));
  out.push_back(uint8_t(v));
}

struct Reader {
  const uint8_t *at, *end;
  bool failed = false;
  uint32_t get() {
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 35; shift += 7) {
      if (at == end)
        break;
      uint8_t byte = *at++;
      v |= uint64_t(byte & 127) << shift;
      if (byte < 128) {
        failed |= v > UINT32_MAX;
        return uint32_t(v);
      }
    }
    failed = true;
    return 0;
  }
};

bool hasBody(Op op) { return op == Op::Ahead || op == Op::NotAhead || op == Op::Atomic; }
} // namespace

std::vector<uint8_t> PatternProgram::serialize() const {
  std::vector<uint8_t> out;
  put(out, uint32_t(classes.size()));
  for (const CharacterClass &c : classes) {
    put(out, uint32_t(c.boundaries.size()));
    uint32_t last = 0;
    for (uint32_t b : c.boundaries) {
      put(out, b - last);
      last = b;
    }
  }
  put(out, uint32_t(code.size()));
  for (const Instruction &i : code) {
    out.push_back(i.op);
    for (uint32_t v : {zigzag(i.a), zigzag(i.b), i.min, i.max + 1}) // often no maximum: one byte
      put(out, v);
  }
  return out;
}

bool PatternProgram::parse(const uint8_t *data, size_t size) {
  Reader in{data, data + size};
  uint32_t classCount = in.get();
  if (in.failed || classCount > maxClasses)
    return false;
  classes.assign(classCount, {});
  for (CharacterClass &c : classes) {
    uint32_t count = in.get(), last = 0;
    if (in.failed || count > 0x110000 || count > size)
      return false;
    c.boundaries.reserve(count);
    for (uint32_t i = 0; i < count && !in.failed; ++i) {
      uint32_t delta = in.get();
      if ((i && !delta) || delta > 0x110000 - last)
        return false;
      c.boundaries.push_back(last += delta);
    }
    c.setAscii();
  }
  uint32_t count = in.get();
  if (in.failed || !count || count > maxInstructions)
    return false;
  for (uint32_t pc = 0; pc < count; ++pc) {
    Instruction i;
    i.op = Op(in.at == in.end ? uint8_t(OpCount) : *in.at++);
    i.a = unzigzag(in.get());
    i.b = unzigzag(in.get());
    i.min = in.get();
    i.max = in.get() - 1;
    auto isTarget = [&](int32_t offset) {
      int64_t target = int64_t(pc) + offset;
      return target >= 0 && target < int64_t(count);
    };
    if (in.failed || i.op >= OpCount)
      return false;
    bool ok = true;
    if (i.op == Class || i.op == Loop || i.op == KeepLoop)
      ok = i.a >= 0 && uint32_t(i.a) < classCount && i.min <= i.max;
    else if (i.op == Split)
      ok = isTarget(i.a) && isTarget(i.b);
    else if (i.op == Jump || hasBody(i.op))
      ok = isTarget(i.a);
    if (!ok)
      return false;
    code.push_back(i);
  }
  // Nothing runs off the end: only Match and Jump do not go on with the next one.
  return in.at == in.end && code.back().op == Match;
}

Pattern::~Pattern() {
  if (code)
    patternEngine()->free(code);
}

bool Pattern::compile(std::string_view pattern, std::string &error) {
  if (!patternEngine()) {
    error = "the pattern '" + std::string(pattern.substr(0, 200)) +
            "' needs PCRE2, which this program was not linked with";
    return false;
  }
  code = patternEngine()->compile(pattern, error);
  return code;
}

Matcher::~Matcher() {
  if (memory)
    patternEngine()->freeMemory(memory);
}

MatchResult Matcher::find(const Pattern &pattern, std::string_view subject, size_t from,
                          size_t &begin, size_t &end) {
  if (pattern.code)
    return patternEngine()->find(pattern.code, memory, subject, from, begin, end);
  text = subject;
  steps = 10'000'000 + 64 * (text.size() - from); // what PCRE2 allows, and a scan without a match
  for (size_t at = from;; at += std::max<size_t>(1, unicode::characterLength(text.substr(at)))) {
    choices.clear();
    MatchResult result = run(pattern.program, at, 0, 0, end);
    begin = at;
    if (result != MatchResult::None || at >= text.size())
      return result;
  }
}

MatchResult Matcher::run(const PatternProgram &program, size_t at, size_t pc, unsigned depth,
                         size_t &end) {
  const size_t base = choices.size(); // what lies below belongs to who called
  const char *data = text.data();
  const size_t size = text.size();
  auto byte = [&](size_t i) { return static_cast<uint8_t>(data[i]); };
  // The length of the character at `i` if it is in the class, else 0.
  auto taken = [&](const PatternProgram::CharacterClass &c, size_t i) -> size_t {
    if (i >= size)
      return 0;
    if (byte(i) < 128)
      return c.ascii[byte(i) / 64] >> byte(i) % 64 & 1;
    size_t n = byte(i) >= 0xF0 ? 4 : byte(i) >= 0xE0 ? 3 : 2;
    return n <= size - i && c.contains(unicode::decodeCharacter(data + i, n)) ? n : 0;
  };
  if (depth > 16)
    return MatchResult::Failed;

  for (;;) {
    if (!steps--)
      return steps = 0, MatchResult::Failed;
    const PatternProgram::Instruction &i = program.code[pc];
    bool ok = true;
    switch (i.op) {
    case Op::Match:
      choices.resize(base);
      end = at;
      return MatchResult::Found;
    case Op::Class: {
      size_t n = taken(program.classes[size_t(i.a)], at);
      ok = n != 0;
      at += n;
      ++pc;
      break;
    }
    case Op::Loop:
    case Op::KeepLoop: {
      const PatternProgram::CharacterClass &c = program.classes[size_t(i.a)];
      size_t low = at;
      uint32_t count = 0;
      for (size_t n; count < i.max && (n = taken(c, at)); at += n)
        if (++count <= i.min)
          low = at + n;
      ok = count >= i.min;
      ++pc;
      if (ok && i.op == Op::Loop && at > low) {
        size_t before = at - 1;
        while (before > low && (byte(before) & 0xC0) == 0x80)
          --before;
        if (choices.size() > 1u << 20)
          return MatchResult::Failed;
        choices.push_back({pc, before, low});
      }
      break;
    }
    case Op::Split:
      if (choices.size() > 1u << 20)
        return MatchResult::Failed;
      choices.push_back({size_t(int64_t(pc) + i.b), at, at});
      pc = size_t(int64_t(pc) + i.a);
      break;
    case Op::Jump:
      pc = size_t(int64_t(pc) + i.a);
      break;
    case Op::Ahead:
    case Op::NotAhead:
    case Op::Atomic: {
      size_t bodyEnd = 0;
      MatchResult result = run(program, at, pc + 1, depth + 1, bodyEnd);
      if (result == MatchResult::Failed)
        return result;
      ok = (result == MatchResult::Found) != (i.op == Op::NotAhead);
      if (i.op == Op::Atomic && ok)
        at = bodyEnd;
      pc = size_t(int64_t(pc) + i.a);
      break;
    }
    case Op::LineBegin:
      ok = at == 0 || data[at - 1] == '\n';
      ++pc;
      break;
    case Op::LineEnd:
      ok = at == size || data[at] == '\n';
      ++pc;
      break;
    case Op::OpCount:
      return MatchResult::Failed;
    }
    if (ok)
      continue;
    if (choices.size() == base)
      return MatchResult::None;
    Choice &choice = choices.back();
    pc = choice.pc;
    at = choice.at;
    if (at == choice.low) {
      choices.pop_back();
      continue;
    }
    do
      --choice.at;
    while (choice.at > choice.low && (byte(choice.at) & 0xC0) == 0x80);
  }
}

} // namespace quern::runtime
