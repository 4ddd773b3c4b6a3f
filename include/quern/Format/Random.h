//===- Random.h - Seeded random formats and data for tests ------*- C++ -*-===//
//
// Formats drawn from the whole algebra: widths 1 to 8, groups 8 to 256, one and
// two levels, offsets, zeros, minifloats, tables. The same seed gives the same
// format on every machine.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_FORMAT_RANDOM_H
#define QUERN_FORMAT_RANDOM_H

#include "quern/Format/Components.h"

namespace quern::format {

/// A valid Base format.
Spec randomSpec(uint64_t seed);

/// Random components: any code pattern that is finite, scales of order 1, so that decoded
/// values are finite and of moderate size.
void randomComponents(const Spec &spec, int64_t rows, int64_t cols, uint64_t seed, Components &out);

} // namespace quern::format

#endif // QUERN_FORMAT_RANDOM_H
