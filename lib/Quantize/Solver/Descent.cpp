//===- Descent.cpp - Coordinate descent on codes and levels ---------------===//
//
// The error is a quadratic of every number by itself. With g = (w - w') H, moving w' by s
// changes it by s H s^T - 2 s g^T; the best number is the one nearest to where that is least.
//
//===----------------------------------------------------------------------===//
#include "Row.h"
#include "Vector.h"
#include <cmath>

using namespace quern;
using namespace quern::quantize;

void Row::startDescent() {
  std::fill(gradient.begin(), gradient.end(), 0.0f);
  for (int64_t k = 0; k < n; ++k)
    if (float d = w[size_t(k)] - decoded[size_t(k)]; d != 0)
      addScaled(gradient.data(), &h.damped[size_t(k * n)], d, n);
}

bool Row::descendCodes() {
  bool changed = false;
  for (int64_t i = 0; i < n; ++i) {
    int64_t k = h.order[size_t(i)];
    float curvature = h.damped[size_t(k * n + k)];
    if (!(curvature > 0))
      continue;
    float now = decoded[size_t(k)], target = now + gradient[size_t(k)] / curvature;
    uint32_t code = nearestCode(k, target);
    if (code == codes[size_t(k)])
      continue;
    float value = decode(k, code), move = value - now;
    // Rounding may favour a code that is no better.
    if (!(move * (move * curvature - 2 * gradient[size_t(k)]) < 0))
      continue;
    codes[size_t(k)] = code;
    decoded[size_t(k)] = value;
    addScaled(gradient.data(), &h.damped[size_t(k * n)], -move, n);
    changed = true;
  }
  return changed;
}

bool Row::tryMove(int64_t first, int64_t end) {
  std::fill(moved.begin(), moved.end(), 0.0f);
  double linear = 0, quadratic = 0;
  bool any = false;
  for (int64_t k = first; k < end; ++k) {
    float s = step[size_t(k)] = trial[size_t(k)] - decoded[size_t(k)];
    if (s == 0)
      continue;
    any = true;
    linear += double(s) * double(gradient[size_t(k)]);
    addScaled(moved.data(), &h.damped[size_t(k * n)], s, n);
  }
  if (!any)
    return false;
  for (int64_t k = first; k < end; ++k)
    quadratic += double(step[size_t(k)]) * double(moved[size_t(k)]);
  // Only what is more than rounding noise, so that descent ends.
  if (!(quadratic - 2 * linear < -1e-6 * quadratic))
    return false;
  for (int64_t k = first; k < end; ++k)
    decoded[size_t(k)] = trial[size_t(k)];
  addScaled(gradient.data(), moved.data(), -1, n);
  return true;
}

/// Scale and offset of one tile together: they pull against each other.
bool Row::descendPair(int64_t tile) {
  size_t ls = scale.count() - 1, lo = offset.count() - 1;
  int64_t first = tile * scale.tileColumns(ls), end = std::min(n, first + scale.tileColumns(ls));
  // Normal equations of (scale, offset) over the tile.
  double uu = 0, u1 = 0, one = 0, ug = 0, g1 = 0;
  for (int64_t k = first; k < end; ++k) {
    trial[size_t(k)] = unit(k);
    step[size_t(k)] = 1;
  }
  for (int64_t i = first; i < end; ++i) {
    const float *row = &h.damped[size_t(i * n + first)];
    double u = double(trial[size_t(i)]);
    double hu = double(dot(row, &trial[size_t(first)], end - first));
    double h1 = double(dot(row, &step[size_t(first)], end - first));
    uu += u * hu;
    u1 += u * h1;
    one += h1;
    ug += u * double(gradient[size_t(i)]);
    g1 += double(gradient[size_t(i)]);
  }
  double determinant = uu * one - u1 * u1;
  if (!(determinant > 1e-9 * uu * one))
    return false;
  double ds = (ug * one - g1 * u1) / determinant, dof = (g1 * uu - ug * u1) / determinant;
  float outerScale = scale.outside(ls, tile), outerOffset = offset.outside(lo, tile);
  float sign = spec.offsetSign < 0 ? -1 : 1;
  if (outerScale == 0 || outerOffset == 0)
    return false;
  uint64_t rawScale, rawOffset;
  float newScale, newOffset;
  float scaleTarget = scaleAt(first) + float(ds),
        offsetTarget = sign * (offsetAt(first) + float(dof));
  if (!scale.snap(ls, scaleTarget / outerScale, rawScale, newScale) ||
      !offset.snap(lo, offsetTarget / outerOffset, rawOffset, newOffset))
    return false;
  // With the scale as it can be, the offset that suits it.
  double held = double(outerScale) * double(newScale) - double(scaleAt(first));
  dof = (g1 - held * u1) / one;
  if (!offset.snap(lo, sign * (offsetAt(first) + float(dof)) / outerOffset, rawOffset, newOffset))
    return false;
  if (newScale == scale.value(ls, tile) && newOffset == offset.value(lo, tile))
    return false;
  uint64_t oldRaw[2] = {scale.raw(ls, tile), offset.raw(lo, tile)};
  float oldValue[2] = {scale.value(ls, tile), offset.value(lo, tile)};
  scale.set(ls, tile, rawScale, newScale);
  offset.set(lo, tile, rawOffset, newOffset);
  float s = scale.product(tile), o = sign * offset.product(tile);
  for (int64_t k = first; k < end; ++k)
    trial[size_t(k)] = unit(k) * s + o;
  if (!std::isfinite(s) || !std::isfinite(o) || !tryMove(first, end)) {
    scale.set(ls, tile, oldRaw[0], oldValue[0]);
    offset.set(lo, tile, oldRaw[1], oldValue[1]);
    return false;
  }
  std::fill(scaleOf.begin() + first, scaleOf.begin() + end, s);
  std::fill(offsetOf.begin() + first, offsetOf.begin() + end, o);
  return true;
}

bool Row::descendLevel(LevelRow &chain, size_t l, bool isScale) {
  if (!chain.adjustable(l))
    return false;
  bool changed = false, inner = l + 1 == chain.count();
  float sign = !isScale && spec.offsetSign < 0 ? -1 : 1;
  int64_t innerColumns = chain.tileColumns(chain.count() - 1);
  for (int64_t tile = 0; tile < chain.tileCount(l); ++tile) {
    int64_t first = tile * chain.tileColumns(l), end = std::min(n, first + chain.tileColumns(l));
    float now = chain.value(l, tile);
    // What one unit of this level's number is worth at each column.
    auto worth = [&](int64_t k) -> float {
      float product = isScale ? scaleAt(k) : offsetAt(k);
      float other = now != 0 ? product / now
                    : inner  ? sign * chain.outside(l, tile)
                             : 0; // nothing is known of a tile that was zero
      return isScale ? unit(k) * other : other;
    };
    double slope = 0, curvature = 0;
    for (int64_t k = first; k < end; ++k)
      step[size_t(k)] = worth(k);
    for (int64_t i = first; i < end; ++i) {
      const float *row = &h.damped[size_t(i * n)];
      float sum = dot(row + first, &step[size_t(first)], end - first);
      curvature += double(step[size_t(i)]) * double(sum);
      slope += double(step[size_t(i)]) * double(gradient[size_t(i)]);
    }
    if (!(curvature > 0))
      continue;
    uint64_t raw;
    float value;
    if (!chain.snap(l, now + float(slope / curvature), raw, value) || value == now)
      continue;
    uint64_t oldRaw = chain.raw(l, tile);
    chain.set(l, tile, raw, value);
    for (int64_t begin = first; begin < end; begin += innerColumns) {
      float product = sign * chain.product(chain.tileOf(begin));
      for (int64_t k = begin; k < std::min(end, begin + innerColumns); ++k)
        trial[size_t(k)] =
            isScale ? (offset.empty() ? unit(k) * product : unit(k) * product + offsetAt(k))
                    : unit(k) * scaleAt(k) + product;
    }
    bool finite = true;
    for (int64_t k = first; k < end; ++k)
      finite &= std::isfinite(trial[size_t(k)]);
    if (!finite || !tryMove(first, end)) {
      chain.set(l, tile, oldRaw, now);
      continue;
    }
    auto &products = isScale ? scaleOf : offsetOf;
    for (int64_t k = first; k < end; ++k)
      products[size_t(k)] = sign * chain.product(chain.tileOf(k));
    changed = true;
  }
  return changed;
}

bool Row::descendLevels() {
  bool changed = false;
  if (!scale.empty() && !offset.empty() && scale.adjustable(scale.count() - 1) &&
      offset.adjustable(offset.count() - 1) &&
      scale.tileColumns(scale.count() - 1) == offset.tileColumns(offset.count() - 1))
    for (int64_t tile = 0; tile < scale.tileCount(scale.count() - 1); ++tile)
      changed |= descendPair(tile);
  for (size_t l = scale.count(); l-- > 0;)
    changed |= descendLevel(scale, l, true);
  for (size_t l = offset.count(); l-- > 0;)
    changed |= descendLevel(offset, l, false);
  return changed;
}
