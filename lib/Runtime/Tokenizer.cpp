//===- Tokenizer.cpp - Text to token ids and back -------------------------===//
//
// The public face: added tokens are found first, what lies between them goes
// through normalizer, pre-tokenizer and model.
//
//===----------------------------------------------------------------------===//
#include "quern/Runtime/Tokenizer.h"
#include "TokenizerImpl.h"
#include "TokenizerUnicode.h"
#include <algorithm>

namespace quern::runtime {

using namespace blob;

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;

std::unique_ptr<Tokenizer> Tokenizer::load(const void *data, size_t size, std::string &error) {
  auto impl = std::make_unique<Impl>();
  error = impl->load(static_cast<const uint8_t *>(data), size);
  if (!error.empty())
    return nullptr;
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(impl)));
}

namespace {
/// Where the character before `at` begins.
size_t previousCharacter(std::string_view text, size_t at) {
  size_t begin = at - 1;
  while (begin > 0 && at - begin < 4 && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80)
    --begin;
  return unicode::characterLength(text.substr(begin)) == at - begin ? begin : at - 1;
}

uint32_t characterAt(std::string_view text, size_t at) {
  size_t n = unicode::characterLength(text.substr(at));
  return n ? unicode::decodeCharacter(text.data() + at, n) : 0xFFFFFFFF;
}
} // namespace

/// The leftmost, then longest added token at or after `from`; text before `taken` belongs to the
/// match before, with the white space it took along. `special(begin, end)` says whether a
/// special token may stand there.
template <typename Allowed>
bool Tokenizer::Impl::findAdded(const AddedList &list, std::string_view text, size_t from,
                                size_t taken, const Allowed &special, AddedMatch &match,
                                EncodeState &state) const {
  if (!list.count)
    return false;
  auto isWord = [&](size_t begin) {
    size_t n = unicode::characterLength(text.substr(begin)), from_, to;
    return n && state.matcher.find(word, text.substr(begin, n), 0, from_, to) == MatchResult::Found;
  };
  for (size_t at = from; at < text.size(); ++at) {
    if (!list.first[static_cast<uint8_t>(text[at])])
      continue;
    // Narrow the sorted list to the entries that begin with ever more of the text.
    const AddedEntry *low = list.entries, *high = low + list.count, *best = nullptr;
    for (size_t n = 0; at + n < text.size() && low != high; ++n) {
      auto c = static_cast<uint8_t>(text[at + n]);
      low = std::partition_point(low, high, [&](const AddedEntry &e) {
        return e.size <= n || static_cast<uint8_t>(addedText[e.begin + n]) < c;
      });
      high = std::partition_point(low, high, [&](const AddedEntry &e) {
        return e.size > n && static_cast<uint8_t>(addedText[e.begin + n]) == c;
      });
      if (low == high)
        break;
      if (low->size != n + 1)
        continue;
      size_t end = at + n + 1;
      if ((low->flags & Special) && !special(at, end))
        continue;
      if ((low->flags & SingleWord) &&
          ((at > 0 && isWord(previousCharacter(text, at))) || (end < text.size() && isWord(end))))
        continue;
      best = low;
    }
    if (!best)
      continue;
    match = {best->id, at, at + best->size, at + best->size};
    if (best->flags & LStrip)
      while (match.begin > taken) {
        size_t previous = previousCharacter(text, match.begin);
        if (previous < taken || !unicode::isWhiteSpace(characterAt(text, previous)))
          break;
        match.begin = previous;
      }
    if (best->flags & RStrip)
      while (match.end < text.size() && unicode::isWhiteSpace(characterAt(text, match.end)))
        match.end += unicode::characterLength(text.substr(match.end));
    return true;
  }
  return false;
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool parseSpecial,
                                       std::string *error) const {
  return encode(std::vector<TextSegment>{{text, parseSpecial}}, error);
}

std::vector<int32_t> Tokenizer::encode(const std::vector<TextSegment> &segments,
                                       std::string *error) const {
  std::vector<int32_t> out;
  EncodeState state;
  state.out = &out;

  std::string joined;
  std::vector<Piece> markup; // where special tokens may stand
  size_t total = 0;
  for (const TextSegment &s : segments) {
    if (s.markup && !s.text.empty()) {
      if (!markup.empty() && markup.back().end == total)
        markup.back().end += s.text.size();
      else
        markup.push_back({total, total + s.text.size()});
    }
    total += s.text.size();
    if (segments.size() > 1)
      joined.append(s.text);
  }
  std::string_view text = segments.size() == 1 ? segments[0].text : std::string_view(joined);
  auto special = [&](size_t begin, size_t end) {
    for (const Piece &m : markup)
      if (m.begin <= begin && end <= m.end)
        return true;
    return false;
  };

  const Impl &t = *impl;
  // Well-formed text between added tokens.
  auto plain = [&](std::string_view run, size_t base, bool continued) {
    bool changed = !t.normalizer.empty();
    std::string normalized;
    if (changed) {
      normalized = t.normalize(run, continued, state);
      run = normalized;
    }
    auto here = [&](size_t begin, size_t end) {
      return changed ? special(base, base + 1) : special(base + begin, base + end);
    };
    size_t at = 0;
    Impl::AddedMatch match = {};
    while (t.findAdded(t.normalizedAdded, run, match.next, at, here, match, state)) {
      if (at < match.begin)
        t.tokenizeText(run.substr(at, match.begin - at), base + at == 0, continued && at == 0,
                       state);
      out.push_back(static_cast<int32_t>(match.id));
      at = match.end;
    }
    t.tokenizeText(run.substr(at), base + at == 0, continued && at == 0, state);
  };
  // Any bytes between added tokens.
  auto between = [&](size_t begin, size_t end) {
    const size_t start = begin;
    while (begin < end && state.error.empty()) {
      std::string_view rest = text.substr(begin, end - begin);
      size_t valid = unicode::validPrefix(rest);
      if (valid)
        plain(rest.substr(0, valid), begin, begin > start);
      size_t bad = valid;
      while (bad < rest.size() && unicode::characterLength(rest.substr(bad)) == 0)
        ++bad;
      if (bad > valid)
        t.tokenizeBytes(rest.substr(valid, bad - valid), state);
      begin += bad;
    }
  };

  size_t at = 0;
  Impl::AddedMatch match = {};
  while (state.error.empty() &&
         t.findAdded(t.rawAdded, text, match.next, at, special, match, state)) {
    if (at < match.begin)
      between(at, match.begin);
    out.push_back(static_cast<int32_t>(match.id));
    at = match.end;
  }
  between(at, text.size());
  if (error)
    *error = state.error;
  return out;
}

std::string Tokenizer::decode(int32_t id, bool special) const {
  if (id < 0 || uint32_t(id) >= impl->header.vocab)
    return "";
  auto type = TokenType(impl->attributes[id] & typeMask);
  std::string_view text = impl->symbolText(static_cast<uint32_t>(id));
  if (type == TokenType::Control || type == TokenType::Unknown)
    return special ? std::string(text) : std::string();
  if (!impl->has(Metaspace) || type != TokenType::Normal)
    return std::string(text);
  std::string out;
  for (size_t i = 0; i < text.size();) {
    if (text.substr(i, 3) == "\xE2\x96\x81") {
      out += ' ';
      i += 3;
    } else {
      out += text[i++];
    }
  }
  return out;
}

std::string Tokenizer::decode(const std::vector<int32_t> &ids, bool special) const {
  StreamDecoder stream(*this, true, special);
  std::string out;
  for (int32_t id : ids)
    out += stream.push(id);
  return out += stream.flush();
}

int32_t Tokenizer::find(std::string_view text) const {
  for (const Impl::AddedList *list : {&impl->rawAdded, &impl->normalizedAdded})
    for (size_t i = 0; i < list->count; ++i)
      if (impl->addedTextOf(list->entries[i]) == text)
        return static_cast<int32_t>(list->entries[i].id);
  uint32_t id = impl->symbol(text);
  return id < impl->header.vocab ? static_cast<int32_t>(id) : -1;
}

size_t Tokenizer::size() const { return impl->header.vocab; }

TokenType Tokenizer::type(int32_t id) const {
  if (id < 0 || uint32_t(id) >= impl->header.vocab)
    return TokenType::Unused;
  return TokenType(impl->attributes[id] & typeMask);
}

int32_t Tokenizer::bos() const { return impl->header.bos; }
int32_t Tokenizer::eos() const { return impl->header.eos; }

bool Tokenizer::isEnd(int32_t id) const {
  return id >= 0 &&
         std::find(impl->ends, impl->ends + impl->endsCount, id) != impl->ends + impl->endsCount;
}

std::vector<int32_t> Tokenizer::prefix() const {
  return {impl->prefix, impl->prefix + impl->prefixCount};
}
std::vector<int32_t> Tokenizer::suffix() const {
  return {impl->suffix, impl->suffix + impl->suffixCount};
}

std::string StreamDecoder::push(int32_t id) {
  std::string bytes = tokenizer.decode(id, special);
  if (atStart && !bytes.empty()) {
    if (tokenizer.stripsFirstSpace() && bytes[0] == ' ')
      bytes.erase(0, 1);
    atStart = false;
  }
  pending += bytes;
  // Hold back at most the beginning of one character.
  size_t hold = 0;
  for (size_t n = 1; n <= 3 && n <= pending.size(); ++n) {
    auto c = static_cast<uint8_t>(pending[pending.size() - n]);
    if ((c & 0xC0) == 0x80)
      continue;
    size_t length = c >= 0xF0 && c <= 0xF4  ? 4
                    : c >= 0xE0 && c < 0xF0 ? 3
                    : c >= 0xC2 && c < 0xE0 ? 2
                                            : 1;
    if (length > n)
      hold = n;
    break;
  }
  std::string out = pending.substr(0, pending.size() - hold);
  pending.erase(0, pending.size() - hold);
  return out;
}

std::string StreamDecoder::flush() {
  std::string out;
  out.swap(pending);
  return out;
}

bool bytesOfPrintable(std::string_view token, std::string &bytes) {
  bytes.clear();
  for (size_t i = 0; i < token.size();) {
    size_t n = unicode::characterLength(token.substr(i));
    int b = n ? unicode::byteOfPrintable(unicode::decodeCharacter(token.data() + i, n)) : -1;
    if (b < 0)
      return false;
    bytes += static_cast<char>(b);
    i += n;
  }
  return true;
}

bool Tokenizer::stripsFirstSpace() const { return impl->has(StripFirstSpace); }

} // namespace quern::runtime
