//===- LearnedTable.cpp - Tables fitted to a tensor -----------------------===//
//
// Lloyd's algorithm from starting points that depend on the data alone. Scalars are sorted, so
// that each round takes no longer than the table; vectors are sampled.
//
//===----------------------------------------------------------------------===//
#include "LearnedTable.h"
#include "LevelEncoder.h"
#include "quern/Format/Number.h"
#include <algorithm>
#include <cmath>

using namespace quern::format;

static constexpr int scalarRounds = 40, vectorRounds = 8;
static constexpr size_t samplesPerEntry = 16;

namespace {
/// Of the values of one tile.
struct TileRange {
  float magnitude = 0, least = INFINITY;
};
} // namespace

static std::vector<TileRange> ranges(const TileGrid &grid, llvm::ArrayRef<float> values,
                                     int64_t cols) {
  std::vector<TileRange> result(grid.size());
  for (size_t i = 0; i < values.size(); ++i) {
    TileRange &tile = result[grid.indexOf(int64_t(i) / cols, int64_t(i) % cols)];
    tile.magnitude = std::max(tile.magnitude, std::fabs(values[i]));
    tile.least = std::min(tile.least, values[i]);
  }
  return result;
}

/// Values as the codes see them: less an offset, in units of a scale that makes their largest 1.
static std::vector<float> normalized(const Spec &spec, llvm::ArrayRef<float> values,
                                     const Components &out) {
  std::vector<float> result(values.begin(), values.end());
  auto forEach = [&](const std::vector<Level> &levels, auto change) {
    if (levels.empty())
      return;
    TileGrid grid(levels, out);
    std::vector<TileRange> tiles = ranges(grid, result, out.cols);
    for (size_t i = 0; i < result.size(); ++i)
      change(result[i], tiles[grid.indexOf(int64_t(i) / out.cols, int64_t(i) % out.cols)]);
  };
  forEach(spec.offset, [](float &value, const TileRange &tile) { value -= tile.least; });
  forEach(spec.scale, [](float &value, const TileRange &tile) {
    value = tile.magnitude > 0 ? value / tile.magnitude : 0;
  });
  return result;
}

/// Where `count` entries lie best if there are many: as dense as the cube root of the sorted
/// values' own density (Panter and Dite), which is measured between quantiles.
static std::vector<float> scalarStart(llvm::ArrayRef<float> values, size_t count) {
  size_t intervals = std::min<size_t>(values.size() - 1, 32 * count);
  auto quantile = [&](size_t i) { return values[i * (values.size() - 1) / intervals]; };
  std::vector<double> sums(1, 0); // of the intervals' shares
  for (size_t i = 0; i < intervals; ++i)
    sums.push_back(sums.back() + std::pow(double(quantile(i + 1)) - quantile(i), 2.0 / 3));
  std::vector<float> start;
  for (size_t i = 0, interval = 0; i < count; ++i) {
    double wanted = (double(i) + 0.5) / double(count) * sums.back();
    while (interval + 1 < intervals && sums[interval + 1] < wanted)
      ++interval;
    start.push_back(intervals ? quantile(interval) / 2 + quantile(interval + 1) / 2 : values[0]);
  }
  return start;
}

/// Sorted values in `count` clusters, each the values nearest to its mean.
static std::vector<float> scalarMeans(std::vector<float> values, size_t count) {
  std::sort(values.begin(), values.end());
  std::vector<double> sums(1, 0); // of the first i values
  for (float value : values)
    sums.push_back(sums.back() + value);
  std::vector<float> means = scalarStart(values, count);
  for (int round = 0; round < scalarRounds; ++round) {
    std::vector<float> next = means;
    size_t begin = 0;
    for (size_t i = 0; i < count; ++i) {
      size_t end = values.size();
      if (i + 1 < count)
        end = std::upper_bound(values.begin() + begin, values.end(),
                               means[i] / 2 + means[i + 1] / 2) -
              values.begin();
      if (end > begin)
        next[i] = float((sums[end] - sums[begin]) / double(end - begin));
      begin = end;
    }
    if (next == means)
      break;
    means = std::move(next);
  }
  return means;
}

/// Samples to start from, far from each other: each is drawn from the rest in proportion to the
/// squared distance from those before it (k-means++), by a sequence of numbers that is evenly
/// spread.
template <typename Sample>
static std::vector<float> vectorStart(Sample sample, size_t samples, size_t dim, size_t count) {
  std::vector<float> start, columns(samples * dim), fresh(samples), nearest(samples, INFINITY);
  std::vector<double> sums(samples); // of the distances up to each
  for (size_t i = 0; i < samples; ++i)
    for (size_t d = 0; d < dim; ++d)
      columns[d * samples + i] = sample(i)[d];
  size_t next = samples / 2;
  for (double place = 0.5;; place += 0.6180339887498949) {
    llvm::ArrayRef<float> last = sample(next);
    llvm::append_range(start, last);
    if (start.size() == count * dim)
      return start;
    std::fill(fresh.begin(), fresh.end(), 0.0f);
    for (size_t d = 0; d < dim; ++d)
      for (size_t i = 0; i < samples; ++i) {
        float difference = columns[d * samples + i] - last[d];
        fresh[i] += difference * difference;
      }
    double sum = 0;
    for (size_t i = 0; i < samples; ++i) {
      nearest[i] = std::min(nearest[i], fresh[i]);
      sums[i] = sum += nearest[i];
    }
    double wanted = (place - std::floor(place)) * sum;
    next = std::upper_bound(sums.begin(), sums.end(), wanted) - sums.begin();
    next = std::min(next, samples - 1);
  }
}

/// The same for vectors of `dim` values, laid side by side.
static std::vector<float> vectorMeans(llvm::ArrayRef<float> vectors, size_t dim, size_t count) {
  size_t total = vectors.size() / dim, samples = std::min(total, count * samplesPerEntry);
  auto sample = [&](size_t i) { return vectors.slice(i * total / samples * dim, dim); };
  if (samples <= count) { // all of them, repeated rather than leave entries unset
    std::vector<float> all;
    for (size_t e = 0; e < count; ++e)
      llvm::append_range(all, sample(e * samples / count));
    return all;
  }
  std::vector<float> means = vectorStart(sample, samples, dim, count);
  std::vector<float> columns(means.size()), norms(count), distances(count);
  for (int round = 0; round < vectorRounds; ++round) {
    std::fill(norms.begin(), norms.end(), 0.0f);
    for (size_t e = 0; e < count; ++e)
      for (size_t d = 0; d < dim; ++d) {
        float value = means[e * dim + d];
        columns[d * count + e] = 2 * value;
        norms[e] += value * value;
      }
    std::vector<double> sums(means.size(), 0.0);
    std::vector<size_t> members(count, 0);
    for (size_t i = 0; i < samples; ++i) {
      llvm::ArrayRef<float> vector = sample(i);
      distances = norms;
      for (size_t d = 0; d < dim; ++d) {
        const float *column = &columns[d * count];
        for (size_t e = 0; e < count; ++e)
          distances[e] -= vector[d] * column[e];
      }
      size_t best = std::min_element(distances.begin(), distances.end()) - distances.begin();
      ++members[best];
      for (size_t d = 0; d < dim; ++d)
        sums[best * dim + d] += vector[d];
    }
    for (size_t e = 0; e < count; ++e)
      for (size_t d = 0; members[e] && d < dim; ++d)
        means[e * dim + d] = float(sums[e * dim + d] / double(members[e]));
  }
  return means;
}

std::vector<float> quern::format::learnTable(const Spec &spec, llvm::ArrayRef<float> values,
                                             const Components &out) {
  const Table &table = spec.code.table;
  size_t count = size_t(1) << table.indexBits, dim = table.dim;
  std::vector<float> entries(count * dim, 0.0f);
  if (values.empty())
    return entries;
  std::vector<float> wanted = normalized(spec, values, out);
  if (table.signs != Table::Signs::None)
    for (float &value : wanted)
      value = std::fabs(value);
  if (dim == 1) {
    entries = scalarMeans(std::move(wanted), count);
  } else {
    // Rows that are no whole number of vectors end in zeros.
    std::vector<float> vectors;
    for (int64_t row = 0; row < out.rows; ++row) {
      vectors.insert(vectors.end(), wanted.begin() + row * out.cols,
                     wanted.begin() + (row + 1) * out.cols);
      vectors.resize((vectors.size() + dim - 1) / dim * dim, 0.0f);
    }
    entries = vectorMeans(vectors, dim, count);
  }
  for (float &entry : entries)
    entry = decodeNumber(table.entryNumber, encodeNumber(table.entryNumber, entry));
  return entries;
}
