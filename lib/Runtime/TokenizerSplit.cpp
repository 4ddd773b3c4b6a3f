//===- TokenizerSplit.cpp - Normalizers and pre-tokenizers ----------------===//
//
// Runs the declared steps: text to text, then one piece to many.
//
//===----------------------------------------------------------------------===//
#include "TokenizerImpl.h"
#include "TokenizerUnicode.h"
#include <algorithm>

namespace quern::runtime {

namespace {
/// Real steps lengthen a text a few times at most; a hostile list of them, without end.
size_t longest(std::string_view text) { return 64 * text.size() + 65536; }
const char *const tooLong = "the steps of the tokenizer make a text more than 64 times as long";

/// False where the text would grow beyond `limit`.
bool replaceAll(std::string &text, std::string_view from, std::string_view to, size_t limit) {
  if (from.empty() || text.find(from) == std::string::npos)
    return true;
  std::string out;
  out.reserve(text.size() + text.size() / 4);
  size_t at = 0;
  for (size_t hit; (hit = text.find(from, at)) != std::string::npos; at = hit + from.size())
    if (out.append(text, at, hit - at).append(to).size() > limit)
      return false;
  text = out.append(text, at);
  return true;
}

size_t nextCharacter(std::string_view text, size_t at) {
  return at + std::max<size_t>(1, unicode::characterLength(text.substr(at)));
}

/// Calls match(begin, end) for every non-empty match of a step in `text`; false on failure.
template <typename F>
bool forEachMatch(const Pattern *pattern, std::string_view literal, std::string_view text,
                  EncodeState &state, const F &match) {
  for (size_t at = 0; at < text.size();) {
    size_t begin, end;
    if (pattern) {
      MatchResult result = state.matcher.find(*pattern, text, at, begin, end);
      if (result == MatchResult::Failed) {
        state.error = "a pattern of the tokenizer reached its match limit";
        return false;
      }
      if (result == MatchResult::None)
        return true;
    } else {
      begin = literal.empty() ? std::string_view::npos : text.find(literal, at);
      if (begin == std::string_view::npos)
        return true;
      end = begin + literal.size();
    }
    if (begin == end) {
      at = end < text.size() ? nextCharacter(text, end) : end;
      if (end >= text.size())
        return true;
      continue;
    }
    match(begin, end);
    at = end;
  }
  return true;
}

/// The same for \p{N} and \p{N}+, which many tokenizers have as a step of their own: ASCII needs no
/// expression.
template <typename F>
bool forEachNumber(const Pattern &pattern, bool runs, std::string_view text, EncodeState &state,
                   const F &match) {
  size_t run = std::string_view::npos; // where the current run began
  for (size_t at = 0; at <= text.size();) {
    size_t next = at < text.size() ? nextCharacter(text, at) : at + 1, begin, end;
    bool number = at < text.size() && text[at] >= '0' && text[at] <= '9';
    if (next - at > 1)
      number = state.matcher.find(pattern, text.substr(at, next - at), 0, begin, end) ==
               MatchResult::Found;
    if (number && !runs)
      match(at, next);
    else if (number && run == std::string_view::npos)
      run = at;
    else if (!number && run != std::string_view::npos) {
      match(run, at);
      run = std::string_view::npos;
    }
    at = next;
  }
  return true;
}

bool isRegex(TokenizerStep::Kind kind) {
  return kind == TokenizerStep::Split || kind == TokenizerStep::ReplaceRegex;
}
} // namespace

std::string Tokenizer::Impl::normalize(std::string_view input, bool continued,
                                       EncodeState &state) const {
  const size_t limit = longest(input);
  std::string text(input);
  for (const Step &step : normalizer) {
    bool ok = true;
    switch (step.kind) {
    case TokenizerStep::NFC:
      text = unicode::normalization()->normalize(text, unicode::Form::NFC);
      break;
    case TokenizerStep::NFD:
      text = unicode::normalization()->normalize(text, unicode::Form::NFD);
      break;
    case TokenizerStep::NFKC:
      text = unicode::normalization()->normalize(text, unicode::Form::NFKC);
      break;
    case TokenizerStep::NFKD:
      text = unicode::normalization()->normalize(text, unicode::Form::NFKD);
      break;
    case TokenizerStep::Lowercase:
      text = unicode::normalization()->lowercase(text);
      break;
    case TokenizerStep::StripLeft: {
      size_t at = 0;
      while (at < text.size()) {
        size_t next = nextCharacter(text, at);
        if (!unicode::isWhiteSpace(unicode::decodeCharacter(text.data() + at, next - at)))
          break;
        at = next;
      }
      text.erase(0, at);
      break;
    }
    case TokenizerStep::StripRight: {
      size_t end = 0; // after the last character that is not white space
      for (size_t at = 0; at < text.size();) {
        size_t next = nextCharacter(text, at);
        if (!unicode::isWhiteSpace(unicode::decodeCharacter(text.data() + at, next - at)))
          end = next;
        at = next;
      }
      text.resize(end);
      break;
    }
    case TokenizerStep::Prepend:
      if (!text.empty() && !continued)
        text.insert(0, step.a);
      break;
    case TokenizerStep::Replace:
      ok = replaceAll(text, step.a, step.b, limit);
      break;
    case TokenizerStep::ReplaceRegex: {
      std::string out;
      size_t last = 0;
      forEachMatch(&step.pattern, {}, text, state, [&](size_t begin, size_t end) {
        if ((ok &= out.size() <= limit))
          out.append(text, last, begin - last).append(step.b);
        last = end;
      });
      text = out.append(text, last);
      break;
    }
    default:
      break;
    }
    if (!ok || text.size() > limit) {
      state.error = tooLong;
      return "";
    }
  }
  return text;
}

namespace {
/// Puts the parts of one piece, as the behaviour says, at the end of `out`.
bool split(const Tokenizer::Impl::Step &step, std::string_view text, Piece piece,
           std::vector<Piece> &out, EncodeState &state) {
  std::string_view all = text.substr(piece.begin, piece.end - piece.begin);
  if (all.empty())
    return true;
  size_t first = out.size(), last = 0;
  bool previousMatch = false, any = false;
  auto add = [&](size_t begin, size_t end, bool isMatch) {
    if (begin == end)
      return;
    Piece p{piece.begin + begin, piece.begin + end};
    isMatch ^= step.invert;
    switch (step.behavior) {
    case TokenizerStep::Removed:
      if (!isMatch)
        out.push_back(p);
      break;
    case TokenizerStep::Isolated:
      out.push_back(p);
      break;
    case TokenizerStep::Contiguous:
      if (any && previousMatch == isMatch)
        out.back().end = p.end;
      else
        out.push_back(p);
      break;
    case TokenizerStep::MergedWithPrevious:
      if (isMatch && !previousMatch && out.size() > first)
        out.back().end = p.end;
      else
        out.push_back(p);
      break;
    case TokenizerStep::MergedWithNext:
      // A match is joined by what follows it, unless that is a match too.
      if (!isMatch && any && previousMatch)
        out.back().end = p.end;
      else
        out.push_back(p);
      break;
    }
    previousMatch = isMatch;
    any = true;
  };
  auto match = [&](size_t begin, size_t end) {
    add(last, begin, false);
    add(begin, end, true);
    last = end;
  };
  bool ok =
      step.digits || step.digitRuns
          ? forEachNumber(step.pattern, step.digitRuns, all, state, match)
          : forEachMatch(isRegex(step.kind) ? &step.pattern : nullptr, step.a, all, state, match);
  add(last, all.size(), false);
  return ok;
}
} // namespace

void Tokenizer::Impl::tokenizeText(std::string_view input, bool first, bool continued,
                                   EncodeState &state) const {
  if (input.empty())
    return;
  std::string owned; // once a step has changed the text
  std::string_view text = input;
  auto &pieces = state.pieces;
  auto &next = state.nextPieces;
  pieces.assign(1, {0, text.size()});
  const size_t limit = longest(input);

  // Rewrites every piece through `change(out, piece, index)`.
  auto rewrite = [&](const auto &change) {
    std::string out;
    out.reserve(text.size() + text.size() / 2);
    for (size_t i = 0; i < pieces.size() && state.error.empty(); ++i) {
      size_t begin = out.size();
      change(out, text.substr(pieces[i].begin, pieces[i].end - pieces[i].begin), i);
      pieces[i] = {begin, out.size()};
      if (out.size() > limit)
        state.error = tooLong;
    }
    owned = std::move(out);
    text = owned;
  };

  for (const Step &step : preTokenizer) {
    switch (step.kind) {
    case TokenizerStep::Split:
    case TokenizerStep::SplitLiteral:
      next.clear();
      for (Piece p : pieces)
        if (!split(step, text, p, next, state))
          return;
      pieces.swap(next);
      break;
    case TokenizerStep::PrependPiece:
    case TokenizerStep::PrependFirst:
      rewrite([&](std::string &out, std::string_view piece, size_t i) {
        if ((step.kind == TokenizerStep::PrependPiece ? i > 0 || !continued : first && i == 0) &&
            piece.substr(0, step.a.size()) != step.a)
          out.append(step.a);
        out.append(piece);
      });
      break;
    case TokenizerStep::ReplaceChar:
      rewrite([&](std::string &out, std::string_view piece, size_t) {
        std::string replaced(piece);
        if (replaceAll(replaced, step.a, step.b, limit))
          out += replaced;
        else
          state.error = tooLong;
      });
      break;
    case TokenizerStep::ByteMap:
      rewrite([&](std::string &out, std::string_view piece, size_t) {
        for (char c : piece)
          unicode::appendCharacter(out, unicode::printableOfByte(static_cast<uint8_t>(c)));
      });
      break;
    default:
      break;
    }
    if (!state.error.empty())
      return;
  }

  std::string bytes;
  for (size_t i = 0; i < pieces.size(); ++i) {
    std::string_view piece = text.substr(pieces[i].begin, pieces[i].end - pieces[i].begin);
    if (mapped) { // back from printable characters
      bytes.clear();
      for (size_t at = 0; at < piece.size();) {
        size_t n = std::max<size_t>(1, unicode::characterLength(piece.substr(at)));
        int b = unicode::byteOfPrintable(unicode::decodeCharacter(piece.data() + at, n));
        if (b >= 0)
          bytes += static_cast<char>(b);
        at += n;
      }
      piece = bytes;
    }
    if (!cutAtMetaspace) {
      tokenizePiece(piece, state);
      continue;
    }
    // No token spans these places, so that words can be done one by one.
    size_t from = 0;
    for (size_t at = piece.find("\xE2\x96\x81", 1); at != std::string_view::npos;
         at = piece.find("\xE2\x96\x81", at + 3)) {
      if (at > from && cuts[static_cast<uint8_t>(piece[at - 1])]) {
        tokenizePiece(piece.substr(from, at - from), state);
        from = at;
      }
    }
    tokenizePiece(piece.substr(from), state);
  }
}

} // namespace quern::runtime
