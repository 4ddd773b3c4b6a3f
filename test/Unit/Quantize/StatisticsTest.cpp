//===- StatisticsTest.cpp - Sums and their file ---------------------------===//
#include "quern/Quantize/Statistics.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/xxhash.h"
#include <gtest/gtest.h>
#include <random>

using namespace quern::quantize;

namespace {
std::vector<float> randomRows(int64_t count, int64_t columns, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> rows(size_t(count * columns));
  for (float &v : rows)
    v = normal(random);
  return rows;
}

struct File {
  llvm::SmallString<128> path;
  File() { EXPECT_FALSE(llvm::sys::fs::createTemporaryFile("statistics", "qst", path)); }
  ~File() { llvm::sys::fs::remove(path); }
  std::string bytes() const {
    return (*llvm::MemoryBuffer::getFile(path, false, false))->getBuffer().str();
  }
  void write(llvm::StringRef bytes) const {
    std::error_code ec;
    llvm::raw_fd_ostream(path, ec) << bytes;
    ASSERT_FALSE(ec);
  }
  std::string error() const {
    auto read = Statistics::read(path);
    return read ? "" : llvm::toString(read.takeError());
  }
};

Statistics example(unsigned seed) {
  Statistics s;
  s.model = "toy";
  s.text = "text.txt";
  s.tokens = 30;
  s.inputs.emplace_back(std::vector<std::string>{"blk.0.attn_q.weight", "blk.0.attn_k.weight"}, 5);
  s.inputs.emplace_back(std::vector<std::string>{"output.weight"}, 3);
  s.inputs[0].add(randomRows(30, 5, seed).data(), 30);
  s.inputs[1].add(randomRows(30, 3, seed + 1).data(), 30);
  return s;
}
} // namespace

TEST(Statistics, SumsAreThoseOfTheRows) {
  // Wider than a block of columns, and more rows than one.
  int64_t count = 300, columns = 150;
  std::vector<float> rows = randomRows(count, columns, 1);
  InputStatistics input({"w"}, columns);
  input.add(rows.data(), 200);
  input.add(rows.data() + 200 * columns, count - 200);
  EXPECT_EQ(input.rows, uint64_t(count));
  for (int64_t i = 0; i < columns; ++i) {
    double sum = 0, sumAbs = 0, fourth = 0;
    float most = 0;
    for (int64_t t = 0; t < count; ++t) {
      double v = double(rows[size_t(t * columns + i)]);
      sum += v;
      sumAbs += std::abs(v);
      fourth += v * v * v * v;
      most = std::max(most, float(std::abs(v)));
    }
    EXPECT_NEAR(input.sum[size_t(i)], sum, 1e-9);
    EXPECT_NEAR(input.sumAbs[size_t(i)], sumAbs, 1e-9);
    EXPECT_NEAR(input.sumFourth[size_t(i)], fourth, 1e-9);
    EXPECT_EQ(input.absMax[size_t(i)], most);
    for (int64_t j = 0; j < columns; ++j) {
      double product = 0;
      for (int64_t t = 0; t < count; ++t)
        product += double(rows[size_t(t * columns + i)]) * double(rows[size_t(t * columns + j)]);
      EXPECT_NEAR(input.at(i, j), product, 1e-3);
    }
  }
}

TEST(Statistics, ThreadsShareTheWork) {
  int64_t count = 70, columns = 200;
  std::vector<float> rows = randomRows(count, columns, 2);
  InputStatistics one({"w"}, columns), three({"w"}, columns);
  one.add(rows.data(), count);
  for (int thread : {2, 0, 1})
    three.add(rows.data(), count, thread, 3);
  for (int64_t i = 0; i < columns; ++i)
    for (int64_t j = 0; j <= i; ++j)
      EXPECT_EQ(one.at(i, j), three.at(i, j));
  EXPECT_EQ(one.histogram, three.histogram);
  EXPECT_EQ(one.outliers, three.outliers);
  EXPECT_EQ(one.minimum, three.minimum);
  EXPECT_EQ(one.rows, three.rows);
  EXPECT_EQ(one.sumAbs, three.sumAbs);
  EXPECT_EQ(one.absMax, three.absMax);
}

TEST(Statistics, FileKeepsEverything) {
  Statistics s = example(3);
  File file;
  llvm::cantFail(s.write(file.path, true));
  EXPECT_TRUE(isStatistics(file.path));
  Statistics r = llvm::cantFail(Statistics::read(file.path));
  EXPECT_EQ(r.model, s.model);
  EXPECT_EQ(r.text, s.text);
  EXPECT_EQ(r.tokens, s.tokens);
  ASSERT_EQ(r.inputs.size(), 2u);
  const InputStatistics *found = r.find("blk.0.attn_k.weight");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->weights, s.inputs[0].weights);
  EXPECT_EQ(found->sumFourth, s.inputs[0].sumFourth);
  for (int64_t i = 0; i < 5; ++i)
    for (int64_t j = 0; j < 5; ++j)
      EXPECT_EQ(float(found->at(i, j)), float(s.inputs[0].at(i, j)));
  EXPECT_FALSE(r.find("blk.0.attn_v.weight"));
  // Not over what exists, unless asked.
  EXPECT_NE(llvm::toString(s.write(file.path, false)), "");
}

TEST(Statistics, HalvesAddUp) {
  std::vector<float> rows = randomRows(90, 5, 4);
  auto with = [&](int64_t first, int64_t count) {
    Statistics s;
    s.tokens = uint64_t(count);
    s.inputs.emplace_back(std::vector<std::string>{"w"}, 5);
    s.inputs[0].add(rows.data() + first * 5, count);
    return s;
  };
  Statistics all = with(0, 90), half = with(0, 40);
  llvm::cantFail(half.merge(with(40, 50)));
  EXPECT_EQ(half.tokens, all.tokens);
  EXPECT_EQ(half.inputs[0].rows, 90u);
  EXPECT_EQ(half.inputs[0].absMax, all.inputs[0].absMax);
  EXPECT_EQ(half.inputs[0].minimum, all.inputs[0].minimum);
  EXPECT_EQ(half.inputs[0].histogram, all.inputs[0].histogram);
  EXPECT_EQ(half.inputs[0].outliers, all.inputs[0].outliers);
  for (int64_t i = 0; i < 5; ++i)
    for (int64_t j = 0; j < 5; ++j)
      EXPECT_NEAR(half.inputs[0].at(i, j), all.inputs[0].at(i, j), 1e-4);
  EXPECT_NE(llvm::toString(half.merge(example(1))), "");
  EXPECT_EQ(half.tokens, all.tokens);
}

TEST(Statistics, MappedFilesAddUp) {
  Statistics a = example(7), b = example(8);
  b.inputs[1] = InputStatistics({"output.weight"}, 3); // saw nothing
  File fileA, fileB, sum;
  llvm::cantFail(a.write(fileA.path, true));
  llvm::cantFail(b.write(fileB.path, true));
  std::vector<Statistics> parts;
  for (const File *file : {&fileA, &fileB})
    parts.push_back(llvm::cantFail(Statistics::read(file->path)));
  llvm::cantFail(Statistics::writeSum(parts, sum.path, true));
  Statistics both = llvm::cantFail(Statistics::read(sum.path));
  EXPECT_EQ(both.tokens, 60u);
  EXPECT_EQ(both.text, "text.txt, text.txt");
  EXPECT_EQ(both.inputs[0].rows, 60u);
  for (int64_t i = 0; i < 5; ++i)
    for (int64_t j = 0; j < 5; ++j)
      EXPECT_NEAR(both.inputs[0].at(i, j), a.inputs[0].at(i, j) + b.inputs[0].at(i, j), 1e-4);
  EXPECT_EQ(both.inputs[1].minimum, a.inputs[1].minimum);
  EXPECT_EQ(both.inputs[1].absMax, a.inputs[1].absMax);
}

TEST(Statistics, HistogramAndOutliers) {
  // One column of a row is far above the others; bins hold what they say.
  int64_t columns = 64;
  std::vector<float> rows(size_t(10 * columns), 0.25f);
  for (int64_t row = 0; row < 10; ++row)
    rows[size_t(row * columns + 3)] = row < 4 ? -100.0f : 0;
  InputStatistics input({"w"}, columns, /*hessian=*/false);
  input.add(rows.data(), 10);
  EXPECT_EQ(input.outliers[3], 4u);
  EXPECT_EQ(input.outlierColumns(), 1);
  EXPECT_EQ(input.minimum[3], -100.0f);
  EXPECT_EQ(input.maximum[3], 0.0f);
  EXPECT_FALSE(input.hasHessian());
  EXPECT_EQ(input.at(3, 3), 40000.0);
  EXPECT_EQ(input.at(3, 2), 0.0);
  for (int bin = 0; bin < InputStatistics::bins; ++bin) {
    uint64_t expected = bin == 0                                              ? 6
                        : bin == 1 + 22 * 4                                   ? 630 // [1/4, 5/16)
                        : bin == 1 + InputStatistics::binsOfSign + 30 * 4 + 2 ? 4   // (-112, -96]
                                                                              : 0;
    EXPECT_EQ(input.histogram[size_t(bin)], expected) << bin;
  }
  // Each row has a bound of its own: what is far out in a small row is not in a large one.
  std::vector<float> small(size_t(2 * columns), 0.25f);
  std::fill(small.begin() + columns, small.end(), 8.0f);
  small[5] = 8;
  InputStatistics two({"w"}, columns, /*hessian=*/false);
  two.add(small.data(), 2);
  for (int64_t k = 0; k < columns; ++k)
    EXPECT_EQ(two.outliers[size_t(k)], k == 5 ? 1u : 0u) << k;
  EXPECT_EQ(InputStatistics::binStart(1 + 22 * 4), 0.25);
  EXPECT_EQ(InputStatistics::binStart(1 + InputStatistics::binsOfSign + 30 * 4 + 2), 96);
}

TEST(Statistics, ImpossibleSums) {
  File file;
  Statistics s = example(9);
  s.inputs[0].sumCube[1] = NAN;
  llvm::cantFail(s.write(file.path, true));
  EXPECT_NE(file.error().find("'blk.0.attn_q.weight' holds a number that is not finite"),
            std::string::npos);
  s = example(9);
  s.inputs[1].sumSquare[2] = -1;
  llvm::cantFail(s.write(file.path, true));
  EXPECT_NE(file.error().find("negative sum of squares in column 2"), std::string::npos);
  s = example(9);
  s.inputs[1].expert = -2;
  llvm::cantFail(s.write(file.path, true));
  EXPECT_NE(file.error().find("'output.weight' is of expert -2"), std::string::npos);
  s = example(9);
  s.inputs[0].rows = uint64_t(1) << 51;
  llvm::cantFail(s.write(file.path, true));
  EXPECT_NE(file.error().find("'blk.0.attn_q.weight' saw 2251799813685248 rows"),
            std::string::npos);
  s = example(9);
  s.inputs[0].weights.assign(65, "blk.0.attn_q.weight");
  llvm::cantFail(s.write(file.path, true));
  EXPECT_NE(file.error().find("is that of 65 weights, more than 64"), std::string::npos);
  for (std::string name : {std::string("a\xff"), std::string(248, 'a')}) {
    s = example(9);
    s.inputs[0].weights[1] = name; // no GGUF could hold it
    llvm::cantFail(s.write(file.path, true));
    EXPECT_NE(file.error().find("'blk.0.attn_q.weight' has a name that is none"),
              std::string::npos);
    s.inputs.resize(1);
    s.inputs[0].weights = {name};
    std::string path = file.path.str().str() + ".dat";
    llvm::cantFail(s.writeImatrix(path, true));
    EXPECT_NE(
        llvm::toString(Statistics::readAny(path, nullptr).takeError()).find("entry 0 has a name"),
        std::string::npos);
    llvm::sys::fs::remove(path);
  }
  s = example(9);
  s.inputs[1] = InputStatistics({"output.weight"}, 0);
  llvm::cantFail(s.write(file.path, true));
  EXPECT_NE(file.error().find("'output.weight' has 0 columns"), std::string::npos);
}

// What only squares are known of takes no memory for more, and adds up with what more is known of.
TEST(Statistics, SquaresAlone) {
  InputStatistics whole({"w"}, 3, /*hessian=*/false),
      squares = InputStatistics::squaresOf({"w"}, 3);
  whole.add(randomRows(5, 3, 4).data(), 5);
  squares.sumSquare = {1, 2, 3};
  squares.rows = 2;
  for (bool wholeFirst : {false, true}) {
    InputStatistics both = wholeFirst ? whole : squares;
    both.add(wholeFirst ? squares : whole);
    EXPECT_EQ(both.rows, 7u);
    for (size_t k = 0; k < 3; ++k)
      EXPECT_EQ(both.sumSquare[k], whole.sumSquare[k] + squares.sumSquare[k]);
    EXPECT_TRUE(both.minimum.empty() && both.absMax.empty() && both.sum.empty() &&
                both.outliers.empty() && both.histogram.empty());
  }
  Statistics all;
  all.squaresOnly = true;
  all.inputs.push_back(squares);
  std::string text;
  llvm::raw_string_ostream os(text);
  all.print(os);
  EXPECT_NE(text.find("w"), std::string::npos);
  EXPECT_EQ((*all.summary().getArray("inputs"))[0].getAsObject()->getNumber("abs_max"), 0);
}

TEST(Statistics, NoImatrixOfImpossibleSums) {
  // Memory would be taken for all experts before.
  Statistics s = example(9);
  s.inputs[1].expert = INT32_MAX;
  File file;
  std::string path = file.path.str().str() + ".gguf";
  EXPECT_EQ(
      llvm::toString(s.writeImatrix(path, true)),
      "the statistics name an expert 2147483647 of 'output.weight', but have only 1 of its inputs");
  s = example(9);
  s.inputs[0].sumSquare[3] = 1e39;
  EXPECT_EQ(llvm::toString(s.writeImatrix(path, true)),
            "the importance of 'blk.0.attn_q.weight' is too large to be written, in column 3");
  EXPECT_FALSE(llvm::sys::fs::exists(path));
  // Numbers of rows and chunks that i32 does not hold.
  s = example(9);
  s.tokens = s.inputs[0].rows = uint64_t(1) << 40;
  path = file.path.str().str() + ".dat";
  llvm::cantFail(s.writeImatrix(path, true));
  Statistics read = llvm::cantFail(Statistics::readAny(path, nullptr));
  llvm::sys::fs::remove(path);
  EXPECT_EQ(read.tokens, uint64_t(INT32_MAX));
  EXPECT_NEAR(read.find("blk.0.attn_k.weight")->meanSquare(0),
              s.find("blk.0.attn_k.weight")->meanSquare(0), 1e-12);
}

/// Corrects the hash of the directory.
static void makeFit(std::string &bytes) {
  uint64_t place;
  memcpy(&place, bytes.data() + 16, 8);
  if (place > bytes.size())
    return;
  uint64_t hash = llvm::xxh3_64bits(llvm::StringRef(bytes).drop_front(place));
  memcpy(bytes.data() + 24, &hash, 8);
}

TEST(Statistics, DamagedFiles) {
  File file;
  llvm::cantFail(example(5).write(file.path, true));
  std::string good = file.bytes();
  for (size_t size : {size_t(0), size_t(7), size_t(20), good.size() / 2, good.size() - 1}) {
    file.write(good.substr(0, size));
    EXPECT_NE(file.error(), "") << size;
  }
  // Whatever byte is wrong is found; with a hash that was made to fit, nothing crashes.
  std::mt19937 random(6);
  for (int trial = 0; trial < 400; ++trial) {
    std::string bad = good;
    size_t at = random() % bad.size();
    bad[at] = char(uint8_t(bad[at]) ^ (1 + random() % 255));
    if (trial % 10 == 0) {
      file.write(bad);
      EXPECT_NE(file.error(), "") << at;
    }
    makeFit(bad);
    file.write(bad);
    file.error();
  }
  // A count of columns that no memory could hold.
  std::string huge = good;
  size_t columns = huge.find("blk.0.attn_k.weight") + strlen("blk.0.attn_k.weight") + 6;
  uint64_t wide = uint64_t(1) << 61;
  memcpy(huge.data() + columns, &wide, 8);
  makeFit(huge);
  file.write(huge);
  EXPECT_NE(file.error().find("has 2305843009213693952 columns"), std::string::npos);
  // Two inputs that share a block: a small file could stand for more than memory holds.
  std::string shared = good;
  size_t last = shared.find("output.weight") + strlen("output.weight") + 6;
  memcpy(shared.data() + last, good.data() + columns, 32); // columns, rows, block, its hash
  makeFit(shared);
  file.write(shared);
  EXPECT_NE(file.error().find("'output.weight' shares its sums with another"), std::string::npos);
  // The version before.
  std::string old = good;
  old[7] = '1';
  file.write(old);
  EXPECT_TRUE(isStatistics(file.path));
  EXPECT_NE(file.error().find("expected QUERNST2, found QUERNST1"), std::string::npos);
}

TEST(Statistics, ImatrixBothFormats) {
  Statistics s = example(10);
  s.window = 10;
  InputStatistics unseen({"blk.0.ffn_up_exps.weight"}, 3), seen = unseen;
  unseen.expert = 0;
  seen.expert = 1;
  seen.add(randomRows(7, 3, 11).data(), 7);
  s.inputs.push_back(unseen);
  s.inputs.push_back(seen);
  std::mt19937 random(12);
  for (bool legacy : {false, true}) {
    File file;
    std::string path = file.path.str().str() + (legacy ? ".dat" : ".gguf");
    llvm::cantFail(s.writeImatrix(path, true));
    Statistics r = llvm::cantFail(Statistics::readAny(path, nullptr));
    EXPECT_TRUE(r.squaresOnly);
    EXPECT_EQ(r.text, "text.txt");
    r.splitExperts("blk.0.ffn_up_exps.weight", 2, 3);
    for (const char *weight : {"blk.0.attn_k.weight", "output.weight"})
      for (int64_t k = 0; k < s.find(weight)->columns; ++k)
        EXPECT_NEAR(r.find(weight)->meanSquare(k), s.find(weight)->meanSquare(k), 1e-5);
    for (int64_t k = 0; k < 3; ++k) {
      EXPECT_NEAR(r.find("blk.0.ffn_up_exps.weight", 1)->meanSquare(k), seen.meanSquare(k), 1e-5);
      // The legacy format has no counts: what was not seen counts 1.
      EXPECT_EQ(r.find("blk.0.ffn_up_exps.weight", 0)->meanSquare(k), legacy ? 1 : 0);
    }
    EXPECT_EQ(r.find("output.weight")->at(0, 1), 0);
    // Damage is an error or other numbers, never more.
    std::string good = (*llvm::MemoryBuffer::getFile(path, false, false))->getBuffer().str();
    llvm::sys::fs::remove(path);
    for (int trial = 0; trial < 3000; ++trial) {
      std::string bad = good.substr(0, trial % 3 ? good.size() : random() % good.size());
      for (int changes = 0; changes < 1 + trial % 4 && !bad.empty(); ++changes)
        bad[random() % bad.size()] = char(random());
      llvm::Expected<Statistics> read = parseImatrix(bad, "bad");
      if (!read) {
        EXPECT_NE(llvm::toString(read.takeError()), "");
        continue;
      }
      for (const InputStatistics &input : read->inputs)
        for (double square : input.sumSquare)
          EXPECT_TRUE(square >= 0 && std::isfinite(square));
    }
  }
}
