//===- Row.cpp - One row being solved: rounding ---------------------------===//
//
// Loading, storing, and rounding to nearest.
//
//===----------------------------------------------------------------------===//
#include "Row.h"
#include <cmath>

using namespace quern;
using namespace quern::quantize;

Row::Row(const format::Spec &spec, const CodeGrid &grid, const Hessian &hessian, float *gradient)
    : spec(spec), grid(grid), h(hessian), n(hessian.columns), scale(spec.scale, n),
      offset(spec.offset, n), zero(spec.zero, n), gradient(gradient), w(size_t(n)),
      codes(size_t(n)), scaleOf(size_t(n), 1), offsetOf(size_t(n)), zeroOf(size_t(n)),
      decoded(size_t(n)), trial(size_t(n)), step(size_t(n)) {}

float Row::decode(int64_t k, uint32_t code) const {
  float value = grid.value(code);
  if (!zero.empty())
    value = value - zeroAt(k);
  if (!scale.empty())
    value = value * scaleAt(k);
  if (!offset.empty())
    value = value + offsetAt(k); // its sign is in it
  return value;
}

uint32_t Row::nearestCode(int64_t k, float target) const {
  float s = scaleAt(k);
  float unit = s == 0 ? 0 : (target - offsetAt(k)) / s;
  return grid.nearest(unit + zeroAt(k));
}

void Row::expandLevels() {
  for (int64_t k = 0; k < n; ++k) {
    if (!scale.empty())
      scaleOf[size_t(k)] = scale.product(scale.tileOf(k));
    if (!offset.empty()) {
      float o = offset.product(offset.tileOf(k));
      offsetOf[size_t(k)] = spec.offsetSign < 0 ? -o : o;
    }
    if (!zero.empty())
      zeroOf[size_t(k)] = zero.product(zero.tileOf(k));
  }
}

void Row::expandTile(int64_t tile) {
  int64_t width = scale.tileColumns(scale.count() - 1);
  for (int64_t k = tile * width, end = std::min(n, k + width); k < end; ++k) {
    scaleOf[size_t(k)] = scale.product(tile);
    if (!offset.empty())
      offsetOf[size_t(k)] = signOf(Offset) * offset.product(tile);
  }
}

void Row::load(const format::Components &components, int64_t row, const float *values) {
  w.assign(values, values + n);
  scale.load(components.scale, row, components.firstRow);
  offset.load(components.offset, row, components.firstRow);
  zero.load(components.zero, row, components.firstRow);
  uint64_t mask = (uint64_t(1) << spec.code.bitsPerIndex()) - 1;
  for (int64_t k = 0; k < n; ++k)
    codes[size_t(k)] = grid.indexOf(components.codes.get(row, k) & mask);
  expandLevels();
  for (int64_t k = 0; k < n; ++k)
    decoded[size_t(k)] = decode(k, codes[size_t(k)]);
}

void Row::store(format::Components &components, int64_t row) const {
  scale.store(components.scale, row);
  offset.store(components.offset, row);
  const format::Code &code = spec.code;
  bool isSigned =
      (code.kind == format::Code::Kind::Number || code.kind == format::Code::Kind::Power) &&
      code.number.kind == format::Number::Kind::Signed;
  unsigned shift = 64 - code.bitsPerIndex();
  for (int64_t k = 0; k < n; ++k) {
    uint64_t raw = grid.raw(codes[size_t(k)]);
    components.codes.set(row, k, isSigned ? uint64_t(int64_t(raw << shift) >> shift) : raw);
  }
}

void Row::restore(const Choice &choice) {
  codes = choice.codes;
  // The levels' lists are the spec's own, so only their numbers differ.
  for (auto [to, from] : {std::pair(&scale, &choice.scale), std::pair(&offset, &choice.offset)})
    for (size_t l = 0; l < to->count(); ++l)
      for (int64_t t = 0; t < to->tileCount(l); ++t)
        to->set(l, t, from->raw(l, t), from->value(l, t));
  expandLevels();
  for (int64_t k = 0; k < n; ++k)
    decoded[size_t(k)] = decode(k, codes[size_t(k)]);
}

void Row::roundNearest() {
  for (int64_t k = 0; k < n; ++k) {
    codes[size_t(k)] = nearestCode(k, w[size_t(k)]);
    decoded[size_t(k)] = decode(k, codes[size_t(k)]);
  }
}
