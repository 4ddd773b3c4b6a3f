//===- TokenizerBlob.cpp - Laying a tokenizer out -------------------------===//
//
// TokenizerData::serialize: checks the data, builds the tables a run needs and
// writes them as one blob. Runs in the compiler only.
//
//===----------------------------------------------------------------------===//
#include "TokenizerBlob.h"
#include "TokenizerImpl.h"
#include "TokenizerUnicode.h"
#include <algorithm>
#include <cmath>
#include <tuple>
#include <unordered_map>

namespace quern::runtime {

using namespace blob;

namespace {
// The compiler has all the parts: it runs any tokenizer.
[[gnu::used]] const void *const parts[] = {&quern_pattern_engine, &unicode::quern_normalization};

const std::string_view space = "\xE2\x96\x81";

// Real vocabularies end at some 256. The ways to cut a token in two are looked at one by one, which
// is quadratic in its length.
constexpr size_t longestToken = 1024;

class Builder {
public:
  Builder(const TokenizerData &data, std::string &error) : data(data), error(error) {}
  std::vector<uint8_t> run();

private:
  const TokenizerData &data;
  std::string &error;
  std::vector<std::string_view> texts; ///< of all symbols
  std::vector<uint8_t> attributes;
  std::unordered_map<std::string_view, uint32_t> byText; ///< symbols the model may produce
  std::unordered_map<uint64_t, std::pair<uint32_t, uint32_t>> pairs; ///< -> rank, result
  std::vector<uint8_t> out;
  Header header = {};
  std::vector<uint8_t> programs;

  bool fail(const std::string &message) {
    error = message;
    return false;
  }
  bool collectSymbols();
  bool collectPairs();
  void pairsFromScores();
  bool writeAdded();
  uint32_t addProgram(const std::string &expression);
  void writeSteps();
  std::vector<PairEntry> sortedPairs(bool byRank) const;
  bool areJoined(const std::vector<PairEntry> &entries) const;
  void writeTables();
  void markSingles();

  template <typename T> void section(SectionId id, const T *values, size_t count) {
    out.resize((out.size() + 7) / 8 * 8);
    header.sections[id] = {out.size(), count * sizeof(T)};
    if (count) {
      auto bytes = reinterpret_cast<const uint8_t *>(values);
      out.insert(out.end(), bytes, bytes + count * sizeof(T));
    }
  }
  template <typename T> void section(SectionId id, const std::vector<T> &values) {
    section(id, values.data(), values.size());
  }
};

bool Builder::collectSymbols() {
  size_t total = 0;
  if (data.tokens.empty())
    return fail("the vocabulary is empty");
  if (data.tokens.size() > 1u << 26)
    return fail("the vocabulary has " + std::to_string(data.tokens.size()) + " tokens");
  for (const Token &t : data.tokens) {
    if (t.text.size() > longestToken)
      return fail("token " + std::to_string(texts.size()) + " has " +
                  std::to_string(t.text.size()) + " bytes; at most " +
                  std::to_string(longestToken) + " are supported");
    total += t.text.size();
    texts.push_back(t.text);
    attributes.push_back(static_cast<uint8_t>(t.type));
    // The last of several tokens with one text is the one found, as elsewhere.
    if (t.inModel && !t.text.empty()) {
      byText[t.text] = static_cast<uint32_t>(texts.size() - 1);
      header.longestText = std::max(header.longestText, static_cast<uint32_t>(t.text.size()));
    }
  }
  if (total >= UINT32_MAX)
    return fail("the vocabulary's texts exceed 4 GiB");
  return true;
}

/// Every way to make a token of two others, in order of the token's score.
void Builder::pairsFromScores() {
  // Characters that are no tokens themselves can still take part: they get symbols of their own.
  for (size_t id = 0, n = data.tokens.size(); id < n; ++id) {
    if (!data.tokens[id].inModel)
      continue;
    std::string_view text = data.tokens[id].text;
    if (unicode::validPrefix(text) != text.size())
      continue;
    for (size_t at = 0; at < text.size();) {
      size_t length = unicode::characterLength(text.substr(at));
      if (length < text.size() &&
          byText.try_emplace(text.substr(at, length), static_cast<uint32_t>(texts.size())).second) {
        texts.push_back(text.substr(at, length));
        attributes.push_back(static_cast<uint8_t>(TokenType::Unused));
      }
      at += length;
    }
  }
  std::vector<double> scores;
  for (const Token &t : data.tokens)
    scores.push_back(t.score);
  std::sort(scores.begin(), scores.end(), std::greater<double>());
  scores.erase(std::unique(scores.begin(), scores.end()), scores.end());
  for (const auto &[text, id] : byText) {
    if (id >= data.tokens.size() || unicode::validPrefix(text) != text.size())
      continue;
    auto rank =
        static_cast<uint32_t>(std::lower_bound(scores.begin(), scores.end(), data.tokens[id].score,
                                               std::greater<double>()) -
                              scores.begin());
    for (size_t at = unicode::characterLength(text); at < text.size();
         at += unicode::characterLength(text.substr(at))) {
      auto left = byText.find(text.substr(0, at)), right = byText.find(text.substr(at));
      if (left != byText.end() && right != byText.end())
        pairs[uint64_t(left->second) << 32 | right->second] = {rank, id};
    }
  }
}

bool Builder::collectPairs() {
  if (data.mergeByScore) {
    for (size_t i = 0; i < data.tokens.size(); ++i)
      if (std::isnan(data.tokens[i].score))
        return fail("token " + std::to_string(i) + " has a score that is no number");
    pairsFromScores();
    return true;
  }
  auto isToken = [&](int32_t id) { return id >= 0 && size_t(id) < data.tokens.size(); };
  for (size_t i = 0; i < data.merges.size(); ++i) {
    const TokenizerData::Merge &m = data.merges[i];
    if (!isToken(m.left) || !isToken(m.right) || !isToken(m.result))
      return fail("merge " + std::to_string(i) + " names a token that does not exist");
    pairs[uint64_t(m.left) << 32 | uint32_t(m.right)] = {static_cast<uint32_t>(i),
                                                         static_cast<uint32_t>(m.result)};
  }
  return true;
}

/// All pairs, by rank or by their ids.
std::vector<PairEntry> Builder::sortedPairs(bool byRank) const {
  std::vector<PairEntry> entries;
  for (const auto &[key, value] : pairs)
    entries.push_back(
        {static_cast<uint32_t>(key >> 32), static_cast<uint32_t>(key), value.first, value.second});
  std::sort(entries.begin(), entries.end(), [&](const PairEntry &a, const PairEntry &b) {
    if (byRank && a.rank != b.rank)
      return a.rank < b.rank;
    return a.left != b.left ? a.left < b.left : a.right < b.right;
  });
  return entries;
}

/// Whether the pairs make symbols one after the other, each of earlier ones: see Flag::Joined.
bool Builder::areJoined(const std::vector<PairEntry> &entries) const {
  if (entries.empty())
    return false;
  for (size_t i = 0; i < entries.size(); ++i) {
    const PairEntry &e = entries[i];
    if (e.rank != i || e.result != entries[0].result + i || e.left >= e.result ||
        e.right >= e.result ||
        texts[e.result] != std::string(texts[e.left]) + std::string(texts[e.right]))
      return false;
  }
  return true;
}

void Builder::writeTables() {
  std::vector<uint32_t> ends;
  std::string all;
  for (std::string_view t : texts) {
    all += t;
    ends.push_back(static_cast<uint32_t>(all.size()));
  }
  bool compact = texts.size() <= compactSymbols && pairs.size() <= compactSymbols &&
                 std::all_of(texts.begin(), texts.end(),
                             [](std::string_view t) { return t.size() <= UINT8_MAX; }) &&
                 std::all_of(pairs.begin(), pairs.end(),
                             [](const auto &p) { return p.second.first < compactSymbols; });
  std::vector<PairEntry> entries = sortedPairs(/*byRank=*/compact);
  bool joined = compact && areJoined(entries);
  if (compact) {
    header.flags |= Compact | (joined ? Joined : 0);
    header.firstJoined = joined ? entries[0].result : 0;
    all.clear();
    std::vector<uint8_t> lengths;
    for (uint32_t id = 0; id < texts.size(); ++id) {
      if (joined && id - header.firstJoined < entries.size())
        continue;
      all += texts[id];
      lengths.push_back(static_cast<uint8_t>(texts[id].size()));
    }
    section(TextEnds, lengths);
  } else {
    section(TextEnds, ends);
  }
  section(Text, all.data(), all.size());
  for (uint32_t id = 0; id < texts.size(); ++id)
    if (auto it = byText.find(texts[id]); it != byText.end() && it->second == id)
      attributes[id] |= findable;
  section(Attributes, attributes);

  std::vector<double> scores;
  double lowest = 0;
  if (data.kind == TokenizerKind::Unigram)
    for (const Token &t : data.tokens) {
      scores.push_back(t.score);
      lowest = std::min(lowest, t.score);
    }
  header.unknownScore = lowest - 10; // SentencePiece's penalty
  section(Scores, scores);

  // In order of id, so that the bytes do not depend on the standard library's hash tables.
  std::vector<uint32_t> table(compact ? 0 : tableSize(byText.size()), noId);
  for (uint32_t id = 0; id < texts.size() && !compact; ++id)
    if (attributes[id] & findable)
      insertText(table, texts[id], id);
  section(TextTable, table);

  if (joined) {
    std::vector<uint8_t> planes;
    for (unsigned plane = 0; plane < 4; ++plane)
      for (const PairEntry &e : entries)
        planes.push_back(static_cast<uint8_t>((plane < 2 ? e.left : e.right) >> 8 * (plane & 1)));
    section(PairTable, planes);
  } else if (compact) {
    std::vector<SmallPair> small;
    for (const PairEntry &e : entries)
      small.push_back({static_cast<uint16_t>(e.left), static_cast<uint16_t>(e.right),
                       static_cast<uint16_t>(e.rank), static_cast<uint16_t>(e.result)});
    section(PairTable, small);
  } else {
    std::vector<PairEntry> pairTable(tableSize(entries.size()), PairEntry{noId, noId, 0, 0});
    for (const PairEntry &e : entries)
      insertPair(pairTable, e);
    section(PairTable, pairTable);
  }

  std::vector<uint32_t> byteIds(256, noId);
  for (uint32_t b = 0; b < 256; ++b) {
    char c = static_cast<char>(b);
    if (data.kind == TokenizerKind::ByteBPE) {
      auto it = byText.find(std::string_view(&c, 1));
      if (it != byText.end())
        byteIds[b] = it->second;
    }
  }
  if (data.kind != TokenizerKind::ByteBPE)
    for (uint32_t id = 0; id < data.tokens.size(); ++id)
      if (data.tokens[id].type == TokenType::Byte && data.tokens[id].text.size() == 1)
        byteIds[static_cast<uint8_t>(data.tokens[id].text[0])] = id;
  section(ByteIds, byteIds);

  // A word may be cut off before U+2581 where no token goes on from there.
  std::vector<uint8_t> cuts(256, 0);
  if (data.kind != TokenizerKind::ByteBPE && byText.count(space)) {
    std::fill(cuts.begin(), cuts.end(), 1);
    for (const auto &[text, id] : byText)
      for (size_t at = text.find(space, 1); at != std::string_view::npos;
           at = text.find(space, at + 1))
        cuts[static_cast<uint8_t>(text[at - 1])] = 0;
  }
  section(Cuts, cuts);
}

bool Builder::writeAdded() {
  std::vector<AddedToken> sorted = data.added;
  // Tokens looked for in normalized text are themselves normalized.
  Tokenizer::Impl impl;
  for (const TokenizerStep &s : data.normalizer) {
    impl.normalizer.push_back({s.kind, s.behavior, s.invert, s.a, s.b, Pattern()});
    if (s.kind == TokenizerStep::ReplaceRegex &&
        !impl.normalizer.back().pattern.compile(s.a, error))
      return false;
  }
  EncodeState state;
  for (AddedToken &t : sorted)
    if (t.normalized && unicode::validPrefix(t.text) == t.text.size())
      t.text = impl.normalize(t.text, /*continued=*/false, state);
  std::vector<size_t> order(sorted.size());
  for (size_t i = 0; i < order.size(); ++i)
    order[i] = i;
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::tie(sorted[a].normalized, sorted[a].text, a) <
           std::tie(sorted[b].normalized, sorted[b].text, b);
  });
  std::vector<AddedEntry> entries;
  std::string all;
  for (size_t i : order) {
    const AddedToken &t = sorted[i];
    if (t.text.empty())
      continue;
    if (t.id < 0 || size_t(t.id) >= data.tokens.size())
      return fail("added token '" + t.text + "' has id " + std::to_string(t.id) +
                  ", outside the vocabulary");
    uint32_t flags = (t.special ? Special : 0) | (t.singleWord ? SingleWord : 0) |
                     (t.lstrip ? LStrip : 0) | (t.rstrip ? RStrip : 0);
    entries.push_back({static_cast<uint32_t>(t.id), flags, static_cast<uint32_t>(all.size()),
                       static_cast<uint32_t>(t.text.size())});
    all += t.text;
    ++(t.normalized ? header.normalizedAdded : header.rawAdded);
    if (t.singleWord && !header.wordProgram)
      header.wordProgram = addProgram("[" + std::string(rustWord) + "]");
  }
  section(Added, entries);
  section(AddedText, all.data(), all.size());
  return true;
}

/// The size of what was added: none where only PCRE2 can match the expression.
uint32_t Builder::addProgram(const std::string &expression) {
  PatternProgram program;
  if (!compilePattern(expression, program))
    return 0;
  std::vector<uint8_t> bytes = program.serialize();
  programs.insert(programs.end(), bytes.begin(), bytes.end());
  return static_cast<uint32_t>(bytes.size());
}

void Builder::writeSteps() {
  std::vector<StepEntry> entries;
  std::string all;
  auto write = [&](const TokenizerStep &s) {
    StepEntry e = {static_cast<uint8_t>(s.kind),
                   static_cast<uint8_t>(s.behavior),
                   s.invert,
                   0,
                   static_cast<uint32_t>(all.size()),
                   static_cast<uint32_t>(s.a.size()),
                   0,
                   static_cast<uint32_t>(s.b.size()),
                   static_cast<uint32_t>(programs.size()),
                   0};
    if (s.kind == TokenizerStep::Split || s.kind == TokenizerStep::ReplaceRegex) {
      e.programSize = addProgram(s.a);
      if (!e.programSize)
        header.flags |= NeedsPatterns;
    }
    if (isNormalization(s.kind))
      header.flags |= NeedsNormalization;
    all += s.a;
    e.b = static_cast<uint32_t>(all.size());
    all += s.b;
    entries.push_back(e);
  };
  for (const TokenizerStep &s : data.normalizer)
    write(s);
  for (const TokenizerStep &s : data.preTokenizer)
    write(s);
  header.normalizerSteps = static_cast<uint32_t>(data.normalizer.size());
  header.preTokenizerSteps = static_cast<uint32_t>(data.preTokenizer.size());
  section(Steps, entries);
  section(StepText, all.data(), all.size());
  section(Programs, programs);
}

std::vector<uint8_t> Builder::run() {
  memcpy(header.magic, magic, sizeof magic);
  header.kind = static_cast<uint32_t>(data.kind);
  header.flags = (data.ignoreMerges ? IgnoreMerges : 0) | (data.byteFallback ? ByteFallback : 0) |
                 (data.fuseUnknown ? FuseUnknown : 0) | (data.metaspace ? Metaspace : 0) |
                 (data.stripFirstSpace ? StripFirstSpace : 0);
  header.bos = data.bos;
  header.eos = data.eos;
  header.unknown = data.unknown;
  header.padding = data.padding;
  header.vocab = static_cast<uint32_t>(data.tokens.size());
  out.resize(sizeof(Header));
  if (!collectSymbols() || !collectPairs())
    return {};
  header.symbols = static_cast<uint32_t>(texts.size());
  writeTables();
  if (!writeAdded())
    return {};
  writeSteps();
  section(Prefix, data.prefix);
  section(Suffix, data.suffix);
  section(Ends, data.ends);
  out.resize((out.size() + 7) / 8 * 8);
  memcpy(out.data(), &header, sizeof header);
  markSingles();
  return error.empty() ? std::move(out) : std::vector<uint8_t>();
}

/// Marks each token that its own text tokenizes to, so that most words need one look-up.
void Builder::markSingles() {
  Tokenizer::Impl impl;
  error = impl.load(out.data(), out.size());
  if (!error.empty())
    return;
  std::vector<uint8_t> marked = attributes;
  EncodeState state;
  std::vector<int32_t> ids;
  state.out = &ids;
  for (const auto &[text, id] : byText) {
    if (id >= header.vocab)
      continue;
    bool single_ = data.ignoreMerges;
    if (!single_) {
      ids.clear();
      impl.tokenizePiece(text, state, /*useSingles=*/false);
      single_ = ids.size() == 1 && ids[0] == static_cast<int32_t>(id);
    }
    if (single_)
      marked[id] |= single;
  }
  std::copy(marked.begin(), marked.end(), out.begin() + header.sections[Attributes].offset);
}
} // namespace

std::vector<const char *> tokenizerParts(const std::vector<uint8_t> &blob) {
  Header header;
  std::vector<const char *> parts;
  if (blob.size() < sizeof header)
    return parts;
  memcpy(&header, blob.data(), sizeof header);
  if (header.flags & NeedsPatterns)
    parts.push_back("quern_pattern_engine");
  if (header.flags & NeedsNormalization)
    parts.push_back("quern_normalization");
  return parts;
}

std::vector<uint8_t> TokenizerData::serialize(std::string &error) const {
  error.clear();
  return Builder(*this, error).run();
}

} // namespace quern::runtime
