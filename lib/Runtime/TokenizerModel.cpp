//===- TokenizerModel.cpp - From a piece of text to ids -------------------===//
//
// The two models: merging neighbours in order of rank (BPE of bytes or of
// characters, by merge list or by score), and the best path (unigram).
//
//===----------------------------------------------------------------------===//
#include "TokenizerImpl.h"
#include "TokenizerUnicode.h"
#include <algorithm>

namespace quern::runtime {

using blob::noId;

uint32_t Tokenizer::Impl::symbol(std::string_view s) const {
  uint64_t mask = textSlots - 1;
  uint64_t slot = blob::hashText(s) & mask;
  for (uint64_t probes = 0; probes < textSlots; ++probes, slot = (slot + 1) & mask) {
    uint32_t id = textTable[slot];
    if (id == noId)
      return noId;
    if (symbolText(id) == s)
      return id;
  }
  return noId;
}

const blob::PairEntry *Tokenizer::Impl::pair(uint32_t left, uint32_t right) const {
  uint64_t mask = pairSlots - 1;
  uint64_t slot = blob::hashPair(left, right) & mask;
  for (uint64_t probes = 0; probes < pairSlots; ++probes, slot = (slot + 1) & mask) {
    const blob::PairEntry &e = pairTable[slot];
    if (e.left == left && e.right == right)
      return &e;
    if (e.left == noId)
      return nullptr;
  }
  return nullptr;
}

void Tokenizer::Impl::tokenizePiece(std::string_view piece, EncodeState &state,
                                    bool useSingles) const {
  if (piece.empty())
    return;
  if (useSingles && piece.size() <= header.longestText) {
    uint32_t id = symbol(piece);
    if (id != noId && (attributes[id] & blob::single)) {
      state.out->push_back(static_cast<int32_t>(id));
      return;
    }
  }
  if (kind() == TokenizerKind::Unigram)
    viterbi(piece, state);
  else
    merge(piece, state);
}

/// Characters the vocabulary does not have: their bytes where the vocabulary has all of them,
/// else the unknown token, else nothing.
void Tokenizer::Impl::emitUnknown(std::string_view characters, bool &previousUnknown,
                                  EncodeState &state) const {
  if (has(blob::ByteFallback)) {
    bool all = true;
    for (char c : characters) // of bytes that merges alone know there is no token
      all &= byteIds[static_cast<uint8_t>(c)] < header.vocab;
    if (all) {
      for (char c : characters)
        state.out->push_back(static_cast<int32_t>(byteIds[static_cast<uint8_t>(c)]));
      previousUnknown = false;
      return;
    }
  }
  if (header.unknown < 0)
    return;
  if (!previousUnknown || !has(blob::FuseUnknown))
    state.out->push_back(header.unknown);
  previousUnknown = true;
}

void Tokenizer::Impl::tokenizeBytes(std::string_view bytes, EncodeState &state) const {
  if (kind() == TokenizerKind::ByteBPE) {
    tokenizePiece(bytes, state);
    return;
  }
  bool previousUnknown = false;
  for (size_t i = 0; i < bytes.size(); ++i)
    emitUnknown(bytes.substr(i, 1), previousUnknown, state);
}

void Tokenizer::Impl::merge(std::string_view piece, EncodeState &state) const {
  auto &symbols = state.symbols;
  symbols.clear();
  bool bytes = kind() == TokenizerKind::ByteBPE;
  for (size_t i = 0; i < piece.size();) {
    size_t n = bytes ? 1 : std::max<size_t>(1, unicode::characterLength(piece.substr(i)));
    uint32_t id = bytes ? byteIds[static_cast<uint8_t>(piece[i])] : symbol(piece.substr(i, n));
    symbols.push_back({id, static_cast<uint32_t>(n), i, static_cast<int64_t>(symbols.size()) - 1,
                       static_cast<int64_t>(symbols.size()) + 1});
    i += n;
  }
  symbols.back().next = -1;

  auto &heap = state.heap;
  heap.clear();
  auto consider = [&](int64_t left) {
    if (left < 0 || symbols[left].next < 0)
      return;
    uint32_t a = symbols[left].id, b = symbols[symbols[left].next].id;
    if (a == noId || b == noId)
      return;
    if (const blob::PairEntry *e = pair(a, b)) {
      heap.push_back({e->rank, e->result, static_cast<size_t>(left)});
      std::push_heap(heap.begin(), heap.end());
    }
  };
  for (size_t i = 0; i + 1 < symbols.size(); ++i)
    consider(static_cast<int64_t>(i));
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    EncodeState::Candidate top = heap.back();
    heap.pop_back();
    EncodeState::Symbol &left = symbols[top.at];
    if (left.size == 0 || left.next < 0) // merged into its left neighbour, or the last one
      continue;
    EncodeState::Symbol &right = symbols[left.next];
    if (left.id == noId || right.id == noId)
      continue;
    const blob::PairEntry *e = pair(left.id, right.id);
    if (!e || e->rank != top.rank || e->result != top.result)
      continue; // one of the two has been merged since
    left.id = top.result;
    left.size += right.size;
    right.size = 0;
    left.next = right.next;
    if (left.next >= 0)
      symbols[left.next].previous = static_cast<int64_t>(top.at);
    consider(left.previous);
    consider(static_cast<int64_t>(top.at));
  }

  bool previousUnknown = false;
  for (int64_t i = 0; i >= 0; i = symbols[i].next) {
    const EncodeState::Symbol &s = symbols[i];
    if (s.id < header.vocab) {
      state.out->push_back(static_cast<int32_t>(s.id));
      previousUnknown = false;
    } else {
      emitUnknown(piece.substr(s.begin, s.size), previousUnknown, state);
    }
  }
}

void Tokenizer::Impl::viterbi(std::string_view piece, EncodeState &state) const {
  auto &best = state.lattice;
  best.assign(piece.size() + 1, {0, 0, noId, false});
  best[0].set = true;
  auto reach = [&](size_t from, size_t to, double score, uint32_t id) {
    double total = best[from].score + score;
    if (!best[to].set || total > best[to].score)
      best[to] = {total, from, id, true};
  };
  for (size_t at = 0; at < piece.size();) {
    size_t character = std::max<size_t>(1, unicode::characterLength(piece.substr(at)));
    bool whole = false; // the character alone is a token
    size_t limit = std::min<size_t>(piece.size() - at, header.longestText);
    for (size_t n = character; n <= limit;) {
      uint32_t id = symbol(piece.substr(at, n));
      if (id < header.vocab) {
        reach(at, at + n, scores[id], id);
        whole |= n == character;
      }
      if (at + n >= piece.size())
        break;
      n += std::max<size_t>(1, unicode::characterLength(piece.substr(at + n)));
    }
    if (!whole)
      reach(at, at + character, header.unknownScore, noId);
    at += character;
  }
  // Walk back; runs of unknown characters stay together when they are to be one token.
  struct Edge {
    size_t begin, end;
    uint32_t id;
  };
  std::vector<Edge> path;
  for (size_t end = piece.size(); end > 0; end = best[end].from)
    path.push_back({best[end].from, end, best[end].id});
  bool previousUnknown = false;
  for (auto it = path.rbegin(); it != path.rend(); ++it) {
    if (it->id != noId) {
      state.out->push_back(static_cast<int32_t>(it->id));
      previousUnknown = false;
      continue;
    }
    emitUnknown(piece.substr(it->begin, it->end - it->begin), previousUnknown, state);
  }
}

} // namespace quern::runtime
