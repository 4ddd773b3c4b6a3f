//===- Batch.cpp - Rows solved together -----------------------------------===//
//
// See Batch.h.
//
//===----------------------------------------------------------------------===//
#include "Batch.h"
#include "llvm/ADT/Sequence.h"
#include <algorithm>
#include <numeric>

using namespace quern;
using namespace quern::quantize;

/// Columns of a block where tiles allow it: a block of H then stays in the first cache.
static constexpr int64_t usualBlock = 64;

Blocks::Blocks(const format::Spec &spec, const Hessian &hessian) : width(1), widest(0) {
  int64_t n = hessian.columns;
  // All tiles that fit together into a block of moderate size.
  std::vector<int64_t> tiles;
  for (const auto *levels : {&spec.scale, &spec.offset})
    for (const format::Level &level : *levels)
      if (level.tile.cols > 0)
        tiles.push_back(level.tile.cols);
  llvm::sort(tiles);
  for (int64_t tile : tiles) {
    int64_t both = std::lcm(width, tile);
    if (both > 2 * usualBlock)
      break;
    width = both;
    widest = tile;
  }
  width *= std::max<int64_t>(1, usualBlock / width);
  columns.resize(size_t((n + width - 1) / width));
  place.resize(size_t(n));
  for (auto [i, k] : llvm::enumerate(hessian.order)) {
    columns[size_t(k / width)].push_back(k);
    place[size_t(k)] = int32_t(i);
  }
}

Batch::Batch(const format::Spec &spec, const CodeGrid &grid, const Hessian &hessian,
             const Blocks &blocks, int64_t count)
    : h(hessian), blocks(blocks), n(hessian.columns), gradient(size_t(count * n)),
      moved(size_t(count * n)), scratch(size_t(count * n)), done(size_t(count)) {
  for (int64_t r = 0; r < count; ++r)
    rows.emplace_back(spec, grid, hessian, ofRow(gradient, r));
}

void Batch::spread(int64_t first, int64_t count, int64_t begin, int64_t end) {
  if (begin < end)
    addProduct(Product<float>{gradient.data() + begin, n, moved.data() + first, n,
                              &h.damped[size_t(first * n + begin)], n, active, count, end - begin});
}

void Batch::findGradients() {
  std::fill(gradient.begin(), gradient.end(), 0.0f);
  for (int64_t r = 0; r < active; ++r)
    for (int64_t k = 0; k < n; ++k)
      ofRow(moved, r)[k] = rows[size_t(r)].rest(k);
  spread(0, n, 0, n);
}

double Batch::error(int64_t r) {
  double total = 0;
  for (int64_t k = 0; k < n; ++k)
    total += double(rows[size_t(r)].rest(k)) * double(ofRow(gradient, r)[k]);
  return total;
}

void Batch::refitTiles(int64_t begin, int64_t end) {
  const LevelRow &scale = rows.front().chain(Row::Scale);
  int64_t width = scale.tileColumns(scale.count() - 1);
  std::vector<float> targets(static_cast<size_t>(width));
  for (int64_t i = begin; i < end; ++i) {
    int64_t tile = h.order[size_t(i)] / width, first = tile * width;
    int64_t last = std::min(n, first + width);
    if (llvm::any_of(llvm::seq(first, last), [&](int64_t k) { return blocks.place[size_t(k)] < i; }))
      continue;
    for (int64_t r = 0; r < active; ++r) {
      for (int64_t k = first; k < last; ++k)
        targets[size_t(k - first)] =
            rows[size_t(r)].valueAt(k) + ofRow(scratch, r)[blocks.place[size_t(k)]];
      rows[size_t(r)].refitTile(tile, targets.data());
    }
  }
}

void Batch::roundWithFeedback(bool refit) {
  // Both by place in the order of rounding; refitTiles() reads `carried`, too.
  std::vector<float> &carried = scratch, &errors = moved;
  std::fill(carried.begin(), carried.end(), 0.0f);
  for (int64_t begin = 0; begin < n; begin += usualBlock) {
    int64_t end = std::min(n, begin + usualBlock);
    if (refit && rows.front().canFitTiles())
      refitTiles(begin, end);
    for (int64_t r = 0; r < active; ++r)
      for (int64_t i = begin; i < end; ++i) {
        float *target = ofRow(carried, r) + i;
        float d = rows[size_t(r)].roundColumn(h.order[size_t(i)], *target);
        ofRow(errors, r)[i] = d;
        addScaled(target, &h.feedback[size_t(i * n + i)], d, end - i);
      }
    if (end < n)
      addProduct(Product<float>{carried.data() + end, n, errors.data() + begin, n,
                                &h.feedback[size_t(begin * n + end)], n, active, end - begin,
                                n - end});
  }
  findGradients();
}

void Batch::searchLevels() {
  for (int64_t r = 0; r < active; ++r)
    rows[size_t(r)].searchLevels();
}

void Batch::roundNearest() {
  for (int64_t r = 0; r < active; ++r)
    rows[size_t(r)].roundNearest();
  findGradients();
}

void Batch::keepBetter() {
  for (int64_t r = 0; r < active; ++r)
    if (double now = error(r); now < least[size_t(r)]) {
      least[size_t(r)] = now;
      best[size_t(r)] = rows[size_t(r)].choice();
    }
}

void Batch::moveWideLevels(llvm::MutableArrayRef<double> fell) {
  for (Row::Chain which : {Row::Scale, Row::Offset}) {
    const LevelRow &like = rows.front().chain(which);
    for (size_t l = like.count(); l-- > 0;) {
      int64_t width = like.tileColumns(l);
      if (width <= blocks.widest || !like.adjustable(l))
        continue;
      for (int64_t tile = 0; tile < like.tileCount(l); ++tile) {
        int64_t first = tile * width, last = std::min(n, first + width), count = last - first;
        // Directions of all rows, and what H makes of them.
        std::vector<bool> can(size_t(active), false);
        for (int64_t r = 0; r < active; ++r) {
          float *step = ofRow(moved, r) + first, *image = ofRow(scratch, r) + first;
          can[size_t(r)] =
              !done[size_t(r)] && rows[size_t(r)].direction(which, l, tile, step);
          if (!can[size_t(r)])
            std::fill(step, step + count, 0.0f);
          std::fill(image, image + count, 0.0f);
        }
        addProduct(Product<float>{scratch.data() + first, n, moved.data() + first, n,
                                  &h.damped[size_t(first * n + first)], n, active, count, count});
        for (int64_t r = 0; r < active; ++r) {
          Row &row = rows[size_t(r)];
          float *step = ofRow(moved, r) + first, *old = ofRow(scratch, r) + first;
          if (!can[size_t(r)])
            continue;
          double curvature = 0;
          for (int64_t k = 0; k < count; ++k)
            curvature += double(step[k]) * double(old[k]);
          for (int64_t k = 0; k < count; ++k)
            old[k] = row.decodedAt(first + k);
          fell[size_t(r)] += row.moveAlong(which, l, tile, step, curvature);
          for (int64_t k = 0; k < count; ++k)
            step[k] = old[k] - row.decodedAt(first + k);
        }
        spread(first, count, 0, n);
      }
    }
  }
}

void Batch::moveBlock(size_t block, llvm::MutableArrayRef<double> fell) {
  int64_t begin = int64_t(block) * blocks.width, end = std::min(n, begin + blocks.width);
  for (int64_t r = 0; r < active; ++r) {
    Row &row = rows[size_t(r)];
    float *change = ofRow(moved, r);
    if (done[size_t(r)]) {
      std::fill(change + begin, change + end, 0.0f);
      continue;
    }
    for (int64_t k = begin; k < end; ++k)
      change[k] = row.decodedAt(k);
    fell[size_t(r)] += row.descendLevels(begin, end, blocks.widest);
    fell[size_t(r)] += row.descendCodes(blocks.columns[block], begin, end);
    for (int64_t k = begin; k < end; ++k)
      change[k] -= row.decodedAt(k);
  }
  spread(begin, end - begin, 0, begin);
  spread(begin, end - begin, end, n);
}

void Batch::descend(unsigned sweeps) {
  /// What is left to gain of a row's error when descent leaves it.
  constexpr double least = 2e-3;
  /// What the levels of all tiles together must gain in a sweep.
  constexpr double leastOfLevels = 5e-3;
  const LevelRow &scale = rows.front().chain(Row::Scale);
  double tiles = double(scale.tileCount(scale.count() - 1));
  std::fill(done.begin(), done.end(), false);
  std::vector<double> fell(static_cast<size_t>(active));
  for (unsigned sweep = 0; sweep < sweeps; ++sweep) {
    std::fill(fell.begin(), fell.end(), 0.0);
    for (int64_t r = 0; r < active; ++r)
      rows[size_t(r)].setLeastGain(leastOfLevels * error(r) / tiles);
    moveWideLevels(fell);
    for (size_t block = 0; block < blocks.columns.size(); ++block)
      moveBlock(block, fell);
    bool any = false;
    for (int64_t r = 0; r < active; ++r) {
      done[size_t(r)] = done[size_t(r)] || !(fell[size_t(r)] > least * error(r));
      any |= !done[size_t(r)];
    }
    if (!any)
      break;
  }
}

void Batch::solve(format::Components &components, llvm::ArrayRef<float> values, int64_t first,
                  int64_t count, const SolveOptions &options) {
  active = count;
  for (int64_t r = 0; r < count; ++r)
    rows[size_t(r)].load(components, first + r, &values[size_t((first + r) * n)]);
  best.clear();
  least.clear();
  findGradients();
  for (int64_t r = 0; r < count; ++r) {
    best.push_back(rows[size_t(r)].choice());
    least.push_back(error(r));
  }
  if (auto *run = solverOf(options.method).run)
    run(*this, options);
  keepBetter();
  for (int64_t r = 0; r < count; ++r) {
    rows[size_t(r)].restore(best[size_t(r)]);
    rows[size_t(r)].store(components, first + r);
  }
}
