//===- TokenizerLoad.cpp - Checking a blob --------------------------------===//
//
// Every offset, count and id is checked here, once, so that encoding may trust
// the tables.
//
//===----------------------------------------------------------------------===//
#include "TokenizerImpl.h"
#include "TokenizerUnicode.h"

namespace quern::runtime {

using namespace blob;

/// A section as an array of T; false if its size is no multiple or it leaves the blob.
struct Tokenizer::Impl::Sections {
  const uint8_t *data;
  size_t size;
  const Header &header;

  template <typename T> bool get(SectionId id, const T *&out, uint64_t &count) const {
    const Section &s = header.sections[id];
    if (s.offset % 8 || s.offset > size || s.size > size - s.offset || s.size % sizeof(T))
      return false;
    out = reinterpret_cast<const T *>(data + s.offset);
    count = s.size / sizeof(T);
    return true;
  }
};

static bool isPowerOfTwo(uint64_t n) { return n && !(n & (n - 1)); }

/// The tables as they lie in the blob; empty, or which part is damaged.
std::string Tokenizer::Impl::loadTables(const Sections &sections) {
  uint64_t count = 0;
  if (!sections.get(TextEnds, textEnds, count) || count != header.symbols)
    return "token texts";
  for (uint64_t i = 0, last = 0; i < count; last = textEnds[i++])
    if (textEnds[i] < last || textEnds[i] > text.size())
      return "token texts";
  if (!sections.get(TextTable, textTable, textSlots) || !isPowerOfTwo(textSlots))
    return "token table";
  for (uint64_t i = 0; i < textSlots; ++i)
    if (textTable[i] != noId && textTable[i] >= header.symbols)
      return "token table";
  if (!sections.get(PairTable, pairTable, pairSlots) || !isPowerOfTwo(pairSlots))
    return "merges";
  for (uint64_t i = 0; i < pairSlots; ++i)
    if (pairTable[i].left != noId && pairTable[i].result >= header.symbols)
      return "merges";
  return "";
}

/// The same tables from the lists of a compact blob.
std::string Tokenizer::Impl::expandTables(const Sections &sections) {
  const uint8_t *lengths = nullptr, *planes = nullptr;
  const SmallPair *small = nullptr;
  uint64_t count = 0, pairs = 0, found = 0;
  bool joined = has(Joined);
  if (joined ? !sections.get(PairTable, planes, pairs) || pairs % 4
             : !sections.get(PairTable, small, pairs))
    return "merges";
  if (joined)
    pairs /= 4;
  const uint32_t first = header.firstJoined;
  if (pairs > compactSymbols || (joined && (first > header.symbols || pairs > header.symbols - first)))
    return "merges";
  auto pairAt = [&](uint64_t i) -> PairEntry {
    if (!joined)
      return {small[i].left, small[i].right, small[i].rank, small[i].result};
    auto id = [&](const uint8_t *low) { return uint32_t(low[i] | low[pairs + i] << 8); };
    return {id(planes), id(planes + 2 * pairs), uint32_t(i), uint32_t(first + i)};
  };

  if (header.symbols > compactSymbols || !sections.get(TextEnds, lengths, count) ||
      count != header.symbols - (joined ? pairs : 0))
    return "token texts";
  ownEnds.reserve(header.symbols);
  std::string_view given = text;
  for (uint32_t id = 0; id < header.symbols; ++id) {
    if (joined && id - first < pairs) {
      PairEntry e = pairAt(id - first);
      if (e.left >= id || e.right >= id)
        return "merges";
      for (uint32_t part : {e.left, e.right}) {
        uint32_t begin = part ? ownEnds[part - 1] : 0, size = ownEnds[part] - begin;
        if (size > UINT8_MAX)
          return "merges";
        ownText.append(ownText, begin, size);
      }
    } else {
      if (*lengths > given.size())
        return "token texts";
      ownText.append(given, 0, *lengths);
      given.remove_prefix(*lengths++);
    }
    ownEnds.push_back(uint32_t(ownText.size()));
    found += (attributes[id] & findable) != 0;
  }
  text = ownText;
  textEnds = ownEnds.data();

  ownTexts.assign(tableSize(found), noId);
  for (uint32_t id = 0; id < header.symbols; ++id)
    if (attributes[id] & findable)
      insertText(ownTexts, symbolText(id), id);
  textTable = ownTexts.data();
  textSlots = ownTexts.size();

  ownPairs.assign(tableSize(pairs), PairEntry{noId, noId, 0, 0});
  for (uint64_t i = 0; i < pairs; ++i) {
    PairEntry e = pairAt(i);
    if (e.result >= header.symbols)
      return "merges";
    insertPair(ownPairs, e);
  }
  pairTable = ownPairs.data();
  pairSlots = ownPairs.size();
  return "";
}

std::string Tokenizer::Impl::load(const uint8_t *data, size_t size) {
  if (reinterpret_cast<uintptr_t>(data) % 8)
    return "the tokenizer is not 8-byte aligned";
  if (size < sizeof(Header) || memcmp(data, magic, sizeof magic) != 0)
    return "not a tokenizer of this version";
  memcpy(&header, data, sizeof header);
  Sections sections{data, size, header};
  const std::string damaged = "the tokenizer is damaged: ";
  if (header.kind > uint32_t(TokenizerKind::Unigram))
    return damaged + "unknown kind";
  if (header.vocab > header.symbols || header.symbols >= noId || header.vocab > INT32_MAX)
    return damaged + "vocabulary size";

  uint64_t count = 0;
  auto isToken = [&](int64_t id) { return id >= -1 && id < int64_t(header.vocab); };
  auto isSymbol = [&](uint32_t id) { return id == noId || id < header.symbols; };

  const char *bytes = nullptr;
  uint64_t textSize = 0;
  if (!sections.get(Text, bytes, textSize))
    return damaged + "token texts";
  text = std::string_view(bytes, textSize);
  if (!sections.get(Attributes, attributes, count) || count != header.symbols)
    return damaged + "token types";
  for (uint32_t id = header.vocab; id < header.symbols; ++id)
    if (attributes[id] & single)
      return damaged + "token types";
  if (!sections.get(Scores, scores, count) ||
      count != (kind() == TokenizerKind::Unigram ? header.vocab : 0))
    return damaged + "scores";
  if (std::string part = has(Compact) ? expandTables(sections) : loadTables(sections);
      !part.empty())
    return damaged + part;
  if (!sections.get(ByteIds, byteIds, count) || count != 256)
    return damaged + "bytes";
  for (unsigned i = 0; i < 256; ++i)
    if (!isSymbol(byteIds[i]) ||
        (kind() != TokenizerKind::ByteBPE && byteIds[i] != noId && byteIds[i] >= header.vocab))
      return damaged + "bytes";

  const char *addedBytes = nullptr;
  uint64_t addedSize = 0;
  if (!sections.get(AddedText, addedBytes, addedSize) || !sections.get(Added, added, count) ||
      count != uint64_t(header.rawAdded) + header.normalizedAdded)
    return damaged + "added tokens";
  addedText = std::string_view(addedBytes, addedSize);
  rawAdded.entries = added;
  rawAdded.count = header.rawAdded;
  normalizedAdded.entries = added + header.rawAdded;
  normalizedAdded.count = header.normalizedAdded;
  bool words = false;
  for (uint64_t i = 0; i < count; ++i) {
    const AddedEntry &e = added[i];
    if (e.id >= header.vocab || e.size == 0 || e.begin > addedSize || e.size > addedSize - e.begin)
      return damaged + "added tokens";
    AddedList &list = i < header.rawAdded ? rawAdded : normalizedAdded;
    list.first[static_cast<uint8_t>(addedText[e.begin])] = true;
    words |= (e.flags & SingleWord) != 0;
  }
  const uint8_t *programs = nullptr;
  uint64_t programsSize = 0;
  if (!sections.get(Programs, programs, programsSize) || header.wordProgram > programsSize ||
      (words && !word.load(programs, header.wordProgram)))
    return damaged + "patterns";

  const StepEntry *entries = nullptr;
  const char *stepText = nullptr;
  uint64_t stepTextSize = 0;
  if (!sections.get(StepText, stepText, stepTextSize) || !sections.get(Steps, entries, count) ||
      count != uint64_t(header.normalizerSteps) + header.preTokenizerSteps || count > 1000)
    return damaged + "steps";
  mapped = false;
  for (uint64_t i = 0; i < count; ++i) {
    const StepEntry &e = entries[i];
    if (e.kind > TokenizerStep::ByteMap || e.behavior > TokenizerStep::Contiguous ||
        e.a > stepTextSize || e.aSize > stepTextSize - e.a || e.b > stepTextSize ||
        e.bSize > stepTextSize - e.b || e.program > programsSize ||
        e.programSize > programsSize - e.program)
      return damaged + "steps";
    auto &list = i < header.normalizerSteps ? normalizer : preTokenizer;
    Step step{TokenizerStep::Kind(e.kind),
              TokenizerStep::Behavior(e.behavior),
              e.invert != 0,
              std::string_view(stepText + e.a, e.aSize),
              std::string_view(stepText + e.b, e.bSize),
              Pattern()};
    // What a step puts into the text must keep it well-formed.
    for (std::string_view s : {step.a, step.b})
      if (unicode::validPrefix(s) != s.size())
        return damaged + "steps";
    if (step.kind == TokenizerStep::Split || step.kind == TokenizerStep::ReplaceRegex) {
      std::string error;
      if (e.programSize && !step.pattern.load(programs + e.program, e.programSize))
        return damaged + "patterns";
      if (!e.programSize && !step.pattern.compile(step.a, error))
        return error;
    }
    step.digits = step.kind == TokenizerStep::Split && step.a == "\\p{N}";
    step.digitRuns = step.kind == TokenizerStep::Split && step.a == "\\p{N}+";
    mapped |= step.kind == TokenizerStep::ByteMap;
    if (isNormalization(step.kind) && !unicode::normalization())
      return "this program was not linked with the normalization forms that its tokenizer needs";
    list.push_back(std::move(step));
  }

  if (!sections.get(Prefix, prefix, count))
    return damaged + "prefix";
  prefixCount = count;
  if (!sections.get(Suffix, suffix, count))
    return damaged + "suffix";
  suffixCount = count;
  if (!sections.get(Ends, ends, count))
    return damaged + "ends";
  endsCount = count;
  for (size_t i = 0; i < prefixCount; ++i)
    if (prefix[i] < 0 || !isToken(prefix[i]))
      return damaged + "prefix";
  for (size_t i = 0; i < suffixCount; ++i)
    if (suffix[i] < 0 || !isToken(suffix[i]))
      return damaged + "suffix";
  for (size_t i = 0; i < endsCount; ++i)
    if (!isToken(ends[i]))
      return damaged + "ends";
  for (int32_t id : {header.bos, header.eos, header.unknown, header.padding})
    if (!isToken(id))
      return damaged + "special ids";

  if (!sections.get(Cuts, cuts, count) || count != 256)
    return damaged + "cuts";
  cutAtMetaspace = false;
  for (unsigned i = 0; i < 256; ++i)
    cutAtMetaspace |= cuts[i] != 0;
  return "";
}

} // namespace quern::runtime
