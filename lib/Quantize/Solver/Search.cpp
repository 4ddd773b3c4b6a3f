//===- Search.cpp - Scales and offsets by weighted search -----------------===//
//
// Each innermost tile gets the real scale (and offset) that suits it best by itself, each column
// weighted by the variance that feedback leaves to it; then the levels are chosen that come
// closest to those.
//
//===----------------------------------------------------------------------===//
#include "Row.h"
#include <cmath>

using namespace quern;
using namespace quern::quantize;

void Row::fitTile(int64_t first, int64_t end, const float *targets, float &scaleOut,
                  float &scaleWeight, float &offsetOut) {
  bool withOffset = !offset.empty();
  float sign = spec.offsetSign < 0 ? -1 : 1;
  // Tiles choose a sign each only where an unsigned inner level does not tie them together.
  bool offsetSigned = withOffset && offset.isInnerSigned(), scaleSigned = scale.isInnerSigned();
  float least = INFINITY, most = -INFINITY;
  for (int64_t k = first; k < end; ++k) {
    least = std::min(least, targets[k - first]);
    most = std::max(most, targets[k - first]);
  }
  // Filled up to whole vectors with columns that count nothing.
  size_t padded = size_t((end - first + fitLanes - 1) / fitLanes * fitLanes);
  fitted.assign(3 * padded, 0.0f);
  float *values = fitted.data(), *weights = values + padded, *zeros = weights + padded;
  float a = 0, x = 0;
  for (int64_t k = first; k < end; ++k) {
    values[k - first] = targets[k - first];
    weights[k - first] = h.variance[size_t(k)];
    zeros[k - first] = zeroAt(k);
    a += h.variance[size_t(k)];
    x += h.variance[size_t(k)] * targets[k - first];
  }
  UnitGrid units = grid.units();
  float best = INFINITY;
  auto consider = [&](double s, double o) {
    for (int round = 0; round < 3; ++round) {
      FitSums sums = fitSums(values, weights, zero.empty() ? nullptr : zeros, int64_t(padded),
                             float(s), float(o), units);
      if (sums.error < best) {
        best = sums.error;
        scaleOut = float(s);
        offsetOut = float(o);
        scaleWeight = sums.uu;
      }
      // Least squares makes a bad start better, but not that much.
      if (round == 2 || sums.error > 2 * best)
        return;
      // Least squares for these codes: w ~ s u + o.
      double determinant = double(sums.uu) * a - double(sums.u) * sums.u;
      double before = s, offsetBefore = o;
      if (withOffset && determinant > 1e-6 * sums.uu * a) {
        s = (double(sums.xu) * a - double(x) * sums.u) / determinant;
        o = (double(x) * sums.uu - double(sums.xu) * sums.u) / determinant;
        if (!offsetSigned && o * sign < 0) {
          o = 0;
          s = sums.uu > 0 ? sums.xu / sums.uu : 0;
        }
      } else if (sums.uu > 0) {
        s = (sums.xu - o * sums.u) / sums.uu;
      }
      if ((!scaleSigned && s < 0) || (s == before && o == offsetBefore))
        return;
    }
  };
  consider(0, 0);
  if (withOffset) {
    float o = !offsetSigned && least * sign < 0 ? 0 : least;
    double range = double(most) - double(o);
    double span = double(grid.high()) - double(grid.low());
    if (range > 0)
      for (int i = -6; i <= 14; ++i) {
        double s = range / (span + 0.1 * i * (span < 8 ? 1 : span / 8));
        consider(s, double(o) - s * double(grid.low()));
      }
    return;
  }
  float magnitude = std::max(std::fabs(least), std::fabs(most));
  double below = std::fabs(double(grid.low())), above = std::fabs(double(grid.high()));
  double reach = std::max(below, above);
  if (magnitude == 0 || reach == 0)
    return;
  // The other sign matters where one side of the grid reaches further; cutting off large values
  // pays where codes are few.
  bool bothSigns = scaleSigned && std::fabs(below - above) > 0.02 * reach;
  bool fine = grid.size() > 32;
  for (int i = fine ? 11 : 0; i <= (fine ? 15 : 20); ++i) {
    double s = double(magnitude) / reach * (0.55 + 0.035 * i);
    consider(s, 0);
    if (bothSigns)
      consider(-s, 0);
  }
}

/// Chooses numbers of a chain of one or two levels whose products come close to `targets`.
void Row::assignLevels(LevelRow &chain, llvm::ArrayRef<float> targets,
                       llvm::ArrayRef<float> weights, float largest) {
  size_t inner = chain.count() - 1;
  uint64_t raw;
  float value;
  if (inner == 0) {
    for (int64_t t = 0; t < chain.tileCount(0); ++t)
      if (chain.snap(0, targets[size_t(t)], raw, value))
        chain.set(0, t, raw, value);
    return;
  }
  size_t outer = inner - 1;
  int64_t perOuter = chain.tileColumns(outer) / chain.tileColumns(inner);
  std::vector<std::pair<uint64_t, float>> best, now;
  for (int64_t o = 0; o < chain.tileCount(outer); ++o) {
    int64_t first = o * perOuter, end = std::min(chain.tileCount(inner), first + perOuter);
    float extreme = 0;
    for (int64_t t = first; t < end; ++t)
      if (std::fabs(targets[size_t(t)]) > std::fabs(extreme))
        extreme = targets[size_t(t)];
    if (extreme == 0)
      continue;
    float beyond = chain.outside(outer, o);
    double least = INFINITY;
    uint64_t bestRaw = chain.raw(outer, o);
    float bestValue = chain.value(outer, o);
    for (int side = 0; side < 2; ++side)
      for (int i = -4; i <= 8; ++i) {
        float start = extreme / (largest * (1 + 0.02f * float(i))) * (side ? -1 : 1);
        uint64_t outerRaw;
        float outerValue;
        for (int round = 0; round < 2; ++round) {
          if (!chain.snap(outer, start / beyond, outerRaw, outerValue))
            break;
          float unit = beyond * outerValue;
          if (unit == 0)
            break;
          now.clear();
          double error = 0, nn = 0, nt = 0;
          for (int64_t t = first; t < end; ++t) {
            float target = targets[size_t(t)];
            if (!chain.snap(inner, target / unit, raw, value))
              value = 0;
            now.push_back({raw, value});
            double weight = double(weights[size_t(t)]);
            double d = double(target) - double(unit) * double(value);
            error += weight * d * d;
            nn += weight * double(value) * double(value);
            nt += weight * double(value) * double(target);
          }
          if (error < least) {
            least = error;
            bestRaw = outerRaw;
            bestValue = outerValue;
            best = now;
          }
          if (nn == 0)
            break;
          start = float(nt / nn); // least squares for these numbers
        }
      }
    if (!std::isfinite(least))
      continue;
    chain.set(outer, o, bestRaw, bestValue);
    for (int64_t t = first; t < end; ++t)
      chain.set(inner, t, best[size_t(t - first)].first, best[size_t(t - first)].second);
  }
}

/// Largest value an innermost number can have.
static float largestInner(const LevelRow &chain) {
  const format::Level &level = chain.level(chain.count() - 1);
  if (level.number.isFloat())
    return 1;
  float top = level.number.kind == format::Number::Kind::Signed
                  ? float(uint64_t(1) << (level.number.bits - 1)) - 1
                  : float((uint64_t(1) << level.number.bits) - 1);
  return (top + level.addend) * level.multiplier;
}

bool Row::canFitTiles() const {
  return !scale.empty() && scale.allAdjustable() && offset.allAdjustable() && scale.count() <= 2 &&
         offset.count() <= 2 &&
         (offset.empty() ||
          offset.tileColumns(offset.count() - 1) == scale.tileColumns(scale.count() - 1));
}

void Row::searchLevels() {
  if (!canFitTiles())
    return;
  int64_t width = scale.tileColumns(scale.count() - 1);
  int64_t tiles = scale.tileCount(scale.count() - 1);
  std::vector<float> scales(size_t(tiles), 0.0f), weights(size_t(tiles), 0.0f),
      offsets(size_t(tiles), 0.0f), offsetWeights(size_t(tiles), 0.0f);
  for (int64_t t = 0; t < tiles; ++t) {
    int64_t first = t * width, end = std::min(n, first + width);
    fitTile(first, end, &w[size_t(first)], scales[size_t(t)], weights[size_t(t)], offsets[size_t(t)]);
    for (int64_t k = first; k < end; ++k)
      offsetWeights[size_t(t)] += h.variance[size_t(k)];
    if (spec.offsetSign < 0)
      offsets[size_t(t)] = -offsets[size_t(t)];
  }
  assignLevels(scale, scales, weights, largestInner(scale));
  if (!offset.empty())
    assignLevels(offset, offsets, offsetWeights, largestInner(offset));
  expandLevels();
}

double Row::roundingError(int64_t first, int64_t end, const float *targets) const {
  double total = 0;
  for (int64_t k = first; k < end; ++k) {
    float target = targets[k - first], d = target - decode(k, nearestCode(k, target));
    total += double(h.variance[size_t(k)]) * double(d) * double(d);
  }
  return total;
}

void Row::refitTile(int64_t tile, const float *targets) {
  int64_t width = scale.tileColumns(scale.count() - 1);
  int64_t first = tile * width, end = std::min(n, first + width);
  double before = roundingError(first, end, targets);
  std::pair<LevelRow *, float> fitted[] = {{&scale, 0.0f}, {&offset, 0.0f}};
  float weight;
  fitTile(first, end, targets, fitted[0].second, weight, fitted[1].second);
  fitted[1].second *= signOf(Offset);
  // The innermost numbers move, under the outer ones that other tiles share.
  std::pair<uint64_t, float> old[2];
  for (auto [i, level] : llvm::enumerate(fitted)) {
    auto [chain, target] = level;
    if (chain->empty())
      continue;
    size_t inner = chain->count() - 1;
    old[i] = {chain->raw(inner, tile), chain->value(inner, tile)};
    float outside = chain->outside(inner, tile);
    uint64_t raw;
    float value;
    if (outside != 0 && chain->snap(inner, target / outside, raw, value))
      chain->set(inner, tile, raw, value);
  }
  expandTile(tile);
  if (roundingError(first, end, targets) < before)
    return;
  for (auto [i, level] : llvm::enumerate(fitted))
    if (LevelRow *chain = level.first; !chain->empty())
      chain->set(chain->count() - 1, tile, old[i].first, old[i].second);
  expandTile(tile);
}
