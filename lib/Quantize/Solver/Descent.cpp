//===- Descent.cpp - Coordinate descent on codes and levels ---------------===//
//
// The error is a quadratic of every number by itself. With g = (w - w') H, moving w' by s
// changes it by s H s^T - 2 s g^T; the best number is the one nearest to where that is least.
//
//===----------------------------------------------------------------------===//
#include "Row.h"
#include <cmath>

using namespace quern;
using namespace quern::quantize;

bool Row::isWorth(double quadratic, double linear, double tiles) const {
  // Rounding noise never is, so that descent ends.
  return 2 * linear - quadratic > std::max(1e-6 * quadratic, leastGain * tiles);
}

double Row::descendCodes(llvm::ArrayRef<int32_t> columns, int64_t begin, int64_t end) {
  double fell = 0;
  for (int64_t k : columns) {
    const float *row = &h.damped[size_t(k * n)];
    float curvature = row[k];
    if (!(curvature > 0))
      continue;
    float now = decoded[size_t(k)], target = now + gradient[k] / curvature;
    uint32_t code = nearestCode(k, target);
    if (code == codes[size_t(k)])
      continue;
    float value = decode(k, code), move = value - now;
    // Rounding may favour a code that is no better.
    float change = move * (move * curvature - 2 * gradient[k]);
    if (!(change < 0))
      continue;
    codes[size_t(k)] = code;
    decoded[size_t(k)] = value;
    addScaled(gradient + begin, row + begin, -move, end - begin);
    fell -= double(change);
  }
  return fell;
}

double Row::tryMove(int64_t first, int64_t last, int64_t begin, int64_t end) {
  for (int64_t k = first; k < last; ++k)
    step[size_t(k)] = trial[size_t(k)] - decoded[size_t(k)];
  double linear = 0, quadratic = 0;
  for (int64_t k = first; k < last; ++k) {
    float s = step[size_t(k)];
    if (s == 0)
      continue;
    linear += double(s) * double(gradient[k]);
    quadratic += double(s) * double(dot(&h.damped[size_t(k * n + first)], &step[size_t(first)],
                                        last - first));
  }
  if (!isWorth(quadratic, linear))
    return 0;
  for (int64_t k = first; k < last; ++k)
    if (float s = step[size_t(k)]; s != 0)
      addScaled(gradient + begin, &h.damped[size_t(k * n + begin)], -s, end - begin);
  std::copy(trial.begin() + first, trial.begin() + last, decoded.begin() + first);
  return 2 * linear - quadratic;
}

/// Scale and offset of one tile together: they pull against each other.
double Row::descendPair(int64_t tile, int64_t begin, int64_t end) {
  size_t ls = scale.count() - 1, lo = offset.count() - 1;
  int64_t first = tile * scale.tileColumns(ls), last = std::min(n, first + scale.tileColumns(ls));
  // Normal equations of (scale, offset) over the tile.
  double uu = 0, u1 = 0, one = 0, ug = 0, g1 = 0;
  for (int64_t k = first; k < last; ++k) {
    trial[size_t(k)] = unit(k);
    step[size_t(k)] = 1;
  }
  for (int64_t i = first; i < last; ++i) {
    const float *row = &h.damped[size_t(i * n + first)];
    double u = double(trial[size_t(i)]);
    double hu = double(dot(row, &trial[size_t(first)], last - first));
    double h1 = double(dot(row, &step[size_t(first)], last - first));
    uu += u * hu;
    u1 += u * h1;
    one += h1;
    ug += u * double(gradient[i]);
    g1 += double(gradient[i]);
  }
  double determinant = uu * one - u1 * u1;
  if (!(determinant > 1e-9 * uu * one))
    return 0;
  double ds = (ug * one - g1 * u1) / determinant, dof = (g1 * uu - ug * u1) / determinant;
  float outerScale = scale.outside(ls, tile), outerOffset = offset.outside(lo, tile);
  float sign = signOf(Offset);
  if (outerScale == 0 || outerOffset == 0)
    return 0;
  uint64_t rawScale, rawOffset;
  float newScale, newOffset;
  float scaleTarget = scaleAt(first) + float(ds),
        offsetTarget = sign * (offsetAt(first) + float(dof));
  if (!scale.snap(ls, scaleTarget / outerScale, rawScale, newScale) ||
      !offset.snap(lo, offsetTarget / outerOffset, rawOffset, newOffset))
    return 0;
  // With the scale as it can be, the offset that suits it.
  double held = double(outerScale) * double(newScale) - double(scaleAt(first));
  dof = (g1 - held * u1) / one;
  if (!offset.snap(lo, sign * (offsetAt(first) + float(dof)) / outerOffset, rawOffset, newOffset))
    return 0;
  if (newScale == scale.value(ls, tile) && newOffset == offset.value(lo, tile))
    return 0;
  uint64_t oldRaw[2] = {scale.raw(ls, tile), offset.raw(lo, tile)};
  float oldValue[2] = {scale.value(ls, tile), offset.value(lo, tile)};
  scale.set(ls, tile, rawScale, newScale);
  offset.set(lo, tile, rawOffset, newOffset);
  float s = scale.product(tile), o = sign * offset.product(tile);
  for (int64_t k = first; k < last; ++k)
    trial[size_t(k)] = unit(k) * s + o;
  double fell = std::isfinite(s) && std::isfinite(o) ? tryMove(first, last, begin, end) : 0;
  if (fell == 0) {
    scale.set(ls, tile, oldRaw[0], oldValue[0]);
    offset.set(lo, tile, oldRaw[1], oldValue[1]);
    return 0;
  }
  std::fill(scaleOf.begin() + first, scaleOf.begin() + last, s);
  std::fill(offsetOf.begin() + first, offsetOf.begin() + last, o);
  return fell;
}

bool Row::direction(Chain which, size_t l, int64_t tile, float *out) const {
  const LevelRow &chain = which == Scale ? scale : offset;
  if (!chain.adjustable(l))
    return false;
  int64_t first = tile * chain.tileColumns(l), last = std::min(n, first + chain.tileColumns(l));
  float now = chain.value(l, tile);
  bool inner = l + 1 == chain.count();
  if (now == 0 && !inner)
    return false; // nothing is known of a tile that was zero
  for (int64_t k = first; k < last; ++k) {
    float product = which == Scale ? scaleAt(k) : offsetAt(k);
    float other = now != 0 ? product / now : signOf(which) * chain.outside(l, tile);
    out[k - first] = which == Scale ? unit(k) * other : other;
  }
  return true;
}

double Row::moveAlong(Chain which, size_t l, int64_t tile, const float *along, double curvature) {
  LevelRow &levels = chain(which);
  int64_t first = tile * levels.tileColumns(l), last = std::min(n, first + levels.tileColumns(l));
  double slope = 0;
  for (int64_t k = first; k < last; ++k)
    slope += double(along[k - first]) * double(gradient[k]);
  if (!(curvature > 0))
    return 0;
  uint64_t raw, oldRaw = levels.raw(l, tile);
  float value, now = levels.value(l, tile);
  if (!levels.snap(l, now + float(slope / curvature), raw, value) || value == now)
    return 0;
  double move = double(value) - double(now);
  double tiles = double(levels.tileColumns(l)) / double(levels.tileColumns(levels.count() - 1));
  if (!isWorth(move * move * curvature, move * slope, tiles))
    return 0;
  levels.set(l, tile, raw, value);
  int64_t width = levels.tileColumns(levels.count() - 1);
  bool finite = true;
  for (int64_t at = first; at < last; at += width) {
    float product = signOf(which) * levels.product(levels.tileOf(at));
    for (int64_t k = at; k < std::min(last, at + width); ++k) {
      float &to = trial[size_t(k)];
      if (which == Offset)
        to = unit(k) * scaleAt(k) + product;
      else
        to = offset.empty() ? unit(k) * product : unit(k) * product + offsetAt(k);
      finite &= std::isfinite(to);
    }
  }
  if (!finite) {
    levels.set(l, tile, oldRaw, now);
    return 0;
  }
  std::copy(trial.begin() + first, trial.begin() + last, decoded.begin() + first);
  auto &products = which == Scale ? scaleOf : offsetOf;
  for (int64_t k = first; k < last; ++k)
    products[size_t(k)] = signOf(which) * levels.product(levels.tileOf(k));
  return 2 * move * slope - move * move * curvature;
}

double Row::descendLevel(Chain which, size_t l, int64_t begin, int64_t end) {
  int64_t width = chain(which).tileColumns(l);
  double fell = 0;
  for (int64_t first = begin; first < end; first += width) {
    int64_t last = std::min(end, first + width), tile = first / width;
    float *along = &step[size_t(first)];
    if (!direction(which, l, tile, along))
      continue;
    double curvature = 0;
    for (int64_t k = first; k < last; ++k)
      if (along[k - first] != 0)
        curvature += double(along[k - first]) *
                     double(dot(&h.damped[size_t(k * n + first)], along, last - first));
    before.assign(decoded.begin() + first, decoded.begin() + last);
    double change = moveAlong(which, l, tile, along, curvature);
    if (change == 0)
      continue;
    fell += change;
    for (int64_t k = first; k < last; ++k)
      if (float s = decoded[size_t(k)] - before[size_t(k - first)]; s != 0)
        addScaled(gradient + begin, &h.damped[size_t(k * n + begin)], -s, end - begin);
  }
  return fell;
}

double Row::descendLevels(int64_t begin, int64_t end, int64_t widest) {
  double fell = 0;
  size_t ls = scale.count(), lo = offset.count();
  int64_t width = ls ? scale.tileColumns(ls - 1) : 0;
  if (ls && lo && scale.adjustable(ls - 1) && offset.adjustable(lo - 1) && width <= widest &&
      width == offset.tileColumns(lo - 1))
    for (int64_t tile = scale.tileOf(begin); tile <= scale.tileOf(end - 1); ++tile)
      fell += descendPair(tile, begin, end);
  for (Chain which : {Scale, Offset})
    for (size_t l = chain(which).count(); l-- > 0;)
      if (chain(which).tileColumns(l) <= widest)
        fell += descendLevel(which, l, begin, end);
  return fell;
}
