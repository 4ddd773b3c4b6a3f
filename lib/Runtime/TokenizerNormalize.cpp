//===- TokenizerNormalize.cpp - Normalization forms and lower case --------===//
//
// Unicode's algorithms over the generated tables. Only programs whose tokenizer
// normalizes are linked with this.
//
//===----------------------------------------------------------------------===//
#include "TokenizerUnicode.h"
#include <algorithm>
#include <tuple>
#include <vector>

namespace quern::runtime::unicode {

namespace {
constexpr uint32_t hangulFirst = 0xAC00, hangulCount = 11172, leadFirst = 0x1100, leadCount = 19,
                   vowelFirst = 0x1161, vowelCount = 21, tailFirst = 0x11A7, tailCount = 28;

const Mapping *lookUp(const Mapping *table, size_t count, uint32_t c) {
  const Mapping *end = table + count;
  const Mapping *at =
      std::lower_bound(table, end, c, [](const Mapping &m, uint32_t c) { return m.point < c; });
  return at != end && at->point == c ? at : nullptr;
}

uint8_t combiningClass(uint32_t c) {
  if (c < 0x300)
    return 0;
  const ClassRange *end = classTable + classTableCount;
  const ClassRange *at = std::lower_bound(
      classTable, end, c, [](const ClassRange &r, uint32_t c) { return r.last < c; });
  return at != end && at->first <= c ? at->combiningClass : 0;
}

/// The composite of two characters, 0 if there is none.
uint32_t compose(uint32_t a, uint32_t b) {
  if (a - leadFirst < leadCount && b - vowelFirst < vowelCount)
    return hangulFirst + ((a - leadFirst) * vowelCount + (b - vowelFirst)) * tailCount;
  if (a - hangulFirst < hangulCount && (a - hangulFirst) % tailCount == 0 && b > tailFirst &&
      b - tailFirst < tailCount)
    return a + (b - tailFirst);
  const Pair *end = pairTable + pairTableCount;
  const Pair *at =
      std::lower_bound(pairTable, end, Pair{a, b, 0}, [](const Pair &x, const Pair &y) {
        return x.first != y.first ? x.first < y.first : x.second < y.second;
      });
  return at != end && at->first == a && at->second == b ? at->composite : 0;
}

void decompose(uint32_t c, bool compatible, std::vector<uint32_t> &out) {
  if (c < 0xA0) {
    out.push_back(c);
    return;
  }
  if (c - hangulFirst < hangulCount) {
    uint32_t index = c - hangulFirst;
    out.push_back(leadFirst + index / (vowelCount * tailCount));
    out.push_back(vowelFirst + index / tailCount % vowelCount);
    if (index % tailCount)
      out.push_back(tailFirst + index % tailCount);
    return;
  }
  const Mapping *m = compatible ? lookUp(compatibleTable, compatibleTableCount, c) : nullptr;
  if (!m)
    m = lookUp(canonicalTable, canonicalTableCount, c);
  if (m)
    out.insert(out.end(), pool + m->at, pool + m->at + m->count);
  else
    out.push_back(c);
}

/// Composes in place; `points` is decomposed and in canonical order.
void composeAll(std::vector<uint32_t> &points) {
  size_t starter = SIZE_MAX, kept = 0;
  int last = -1; // class of the last character kept after the starter, -1: none
  for (uint32_t c : points) {
    int cls = combiningClass(c);
    if (starter != SIZE_MAX && last < (cls ? cls : 1) && (cls != 0 || last == -1)) {
      if (uint32_t composite = compose(points[starter], c)) {
        points[starter] = composite;
        continue;
      }
    }
    if (cls == 0) {
      starter = kept;
      last = -1;
    } else {
      last = cls;
    }
    points[kept++] = c;
  }
  points.resize(kept);
}

/// Normalizes a stretch and puts it at the end of `out`.
void normalizeStretch(std::string_view text, Form form, std::string &out) {
  bool compatible = form == Form::NFKC || form == Form::NFKD;
  std::vector<uint32_t> points;
  points.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    size_t n = std::max<size_t>(1, characterLength(text.substr(i)));
    decompose(decodeCharacter(text.data() + i, n), compatible, points);
    i += n;
  }
  // Canonical order: runs of combining characters, sorted by class, ties kept.
  std::vector<std::tuple<uint8_t, size_t, uint32_t>> run;
  for (size_t i = 0; i < points.size();) {
    if (!combiningClass(points[i])) {
      ++i;
      continue;
    }
    size_t end = i + 1;
    while (end < points.size() && combiningClass(points[end]))
      ++end;
    run.clear();
    for (size_t k = i; k < end; ++k)
      run.push_back({combiningClass(points[k]), k, points[k]});
    std::sort(run.begin(), run.end());
    for (size_t k = i; k < end; ++k)
      points[k] = std::get<2>(run[k - i]);
    i = end;
  }
  if (form == Form::NFC || form == Form::NFKC)
    composeAll(points);
  for (uint32_t c : points)
    appendCharacter(out, c);
}

std::string normalize(std::string_view text, Form form) {
  // ASCII stays as it is, and nothing joins an ASCII character with what lies before it: only the
  // stretches in between need work, each with the one character in front that marks may join.
  std::string out;
  out.reserve(text.size());
  auto ascii = [&](size_t i) { return static_cast<uint8_t>(text[i]) < 0x80; };
  for (size_t at = 0; at < text.size();) {
    size_t end = at;
    while (end < text.size() && ascii(end))
      ++end;
    size_t begin = end < text.size() && end > at ? end - 1 : end;
    out.append(text, at, begin - at);
    while (end < text.size() && !ascii(end))
      ++end;
    if (begin < end)
      normalizeStretch(text.substr(begin, end - begin), form, out);
    at = end;
  }
  return out;
}

std::string lowercase(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    size_t n = std::max<size_t>(1, characterLength(text.substr(i)));
    uint32_t c = decodeCharacter(text.data() + i, n);
    i += n;
    if (const Mapping *m = lookUp(lowerTable, lowerTableCount, c))
      for (unsigned k = 0; k < m->count; ++k)
        appendCharacter(out, pool[m->at + k]);
    else
      appendCharacter(out, c);
  }
  return out;
}
} // namespace

extern "C" const Normalization quern_normalization = {normalize, lowercase};

} // namespace quern::runtime::unicode
