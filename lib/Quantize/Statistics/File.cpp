//===- File.cpp - The file of statistics ----------------------------------===//
//
// See Statistics.h for the layout. Reading checks hashes first and trusts nothing even then.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Statistics.h"
#include "quern/Support/OutputFile.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/xxhash.h"
#include <cmath>
#include <cstring>

using namespace quern;
using namespace quern::quantize;
using llvm::ArrayRef;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
namespace endian = llvm::support::endian;

// Arrays are taken as they lie in the file.
static_assert(llvm::endianness::native == llvm::endianness::little);

namespace {
constexpr StringRef magic = "QUERNST2", anyMagic = "QUERNST";
/// Magic, size, directory, hash.
constexpr uint64_t headBytes = 32;
/// Products of models are narrower; a larger K is a damaged file.
constexpr uint64_t maxColumns = 1 << 20;
/// That read one input; more would make much of a small file where each gets its sums.
constexpr size_t maxWeights = 64;
/// As many activations as no calibration sees.
constexpr uint64_t maxRows = uint64_t(1) << 50;

template <typename T> void put(std::string &bytes, T value) {
  char raw[sizeof(T)];
  endian::write<T>(raw, value, llvm::endianness::little);
  bytes.append(raw, raw + sizeof(T));
}
void putString(std::string &bytes, StringRef text) {
  put(bytes, uint32_t(text.size()));
  bytes.append(text.begin(), text.end());
}
template <typename T> void putArray(std::string &bytes, ArrayRef<T> values) {
  bytes.append(reinterpret_cast<const char *>(values.data()), values.size() * sizeof(T));
}

/// Reads forward; after the first shortage everything is empty and `failed`.
class Reader {
public:
  explicit Reader(StringRef bytes) : rest(bytes) {}
  template <typename T> T get() {
    if (rest.size() < sizeof(T)) {
      failed = true;
      return T();
    }
    T value = endian::read<T>(rest.data(), llvm::endianness::little);
    rest = rest.drop_front(sizeof(T));
    return value;
  }
  std::string string() {
    uint32_t length = get<uint32_t>();
    if (failed || length > rest.size()) {
      failed = true;
      return "";
    }
    std::string text = rest.take_front(length).str();
    rest = rest.drop_front(length);
    return text;
  }
  template <typename T> ArrayRef<T> view(uint64_t count) {
    if (failed || count > rest.size() / sizeof(T)) {
      failed = true;
      return {};
    }
    ArrayRef<T> values(reinterpret_cast<const T *>(rest.data()), count);
    rest = rest.drop_front(count * sizeof(T));
    return values;
  }
  template <typename T> void array(std::vector<T> &out, uint64_t count) {
    ArrayRef<T> values = view<T>(count);
    out.assign(values.begin(), values.end());
  }
  StringRef rest;
  bool failed = false;
};

uint64_t blockBytes(const InputStatistics &input) {
  uint64_t k = uint64_t(input.columns);
  return k * (2 * sizeof(float) + 6 * sizeof(double)) + InputStatistics::bins * sizeof(uint64_t);
}
uint64_t triangleBytes(uint64_t columns) { return columns * (columns + 1) / 2 * sizeof(float); }
} // namespace

bool quern::quantize::isStatistics(StringRef path) {
  auto start = llvm::MemoryBuffer::getFileSlice(path, magic.size(), 0);
  return start && (*start)->getBuffer().starts_with(anyMagic);
}

Expected<StatisticsWriter> StatisticsWriter::create(StringRef path, bool force) {
  Expected<OutputFile> file = OutputFile::create(path, force);
  if (!file)
    return file.takeError();
  StatisticsWriter out(std::move(*file));
  out.file.stream().write_zeros(headBytes);
  out.size = headBytes;
  return out;
}

void StatisticsWriter::add(const InputStatistics &input) {
  std::string block;
  block.reserve(blockBytes(input) + (input.hasHessian() ? triangleBytes(input.columns) : 0));
  if (input.rows) {
    putArray(block, ArrayRef(input.minimum));
    putArray(block, ArrayRef(input.maximum));
  } else {
    block.append(2 * sizeof(float) * size_t(input.columns), '\0');
  }
  for (const auto *sums :
       {&input.sum, &input.sumAbs, &input.sumSquare, &input.sumCube, &input.sumFourth})
    putArray(block, ArrayRef(*sums));
  putArray(block, ArrayRef(input.outliers));
  putArray(block, ArrayRef(input.histogram));
  if (!input.mapped.empty())
    putArray(block, input.mapped);
  else
    for (double v : input.triangle)
      put(block, float(v));
  uint64_t begin = llvm::alignTo(size, 8);
  file.stream().write_zeros(unsigned(begin - size));
  file.stream() << block;
  size = begin + block.size();

  put(directory, uint32_t(input.weights.size()));
  for (const std::string &name : input.weights)
    putString(directory, name);
  put(directory, input.expert);
  put(directory, uint8_t(input.positions));
  put(directory, uint8_t(input.hasHessian()));
  put(directory, uint64_t(input.columns));
  put(directory, input.rows);
  put(directory, begin);
  put(directory, llvm::xxh3_64bits(block));
  ++inputs;
}

Error StatisticsWriter::keep(const Statistics &head) {
  std::string all, front = magic.str();
  putString(all, head.model);
  putString(all, head.text);
  put(all, head.tokens);
  put(all, head.window);
  put(all, inputs);
  all += directory;
  file.stream() << all;
  put(front, size + all.size());
  put(front, size);
  put(front, llvm::xxh3_64bits(all));
  // A full disk has to be found before the stream seeks.
  file.stream().flush();
  if (!file.stream().has_error())
    file.stream().pwrite(front.data(), front.size(), 0);
  return file.keep();
}

Error Statistics::write(StringRef path, bool force) const {
  Expected<StatisticsWriter> writer = StatisticsWriter::create(path, force);
  if (!writer)
    return writer.takeError();
  for (const InputStatistics &input : inputs)
    writer->add(input);
  return writer->keep(*this);
}

/// An entry of the directory; `block` is where its block lies, `hessian` whether it ends with H.
static InputStatistics readEntry(Reader &in, uint64_t &block, bool &hessian) {
  InputStatistics input;
  uint32_t weights = in.get<uint32_t>();
  for (uint32_t i = 0; i < weights && !in.failed; ++i)
    input.weights.push_back(in.string());
  input.expert = in.get<int32_t>();
  input.positions = Positions(in.get<uint8_t>());
  hessian = in.get<uint8_t>() != 0;
  input.columns = int64_t(in.get<uint64_t>());
  input.rows = in.get<uint64_t>();
  block = in.get<uint64_t>();
  input.hash = in.get<uint64_t>();
  return input;
}

/// Takes the sums out of the block; returns what is wrong with them.
static std::string readBlock(StringRef bytes, InputStatistics &input, ArrayRef<float> &mapped,
                             bool hessian) {
  Reader in(bytes);
  uint64_t columns = uint64_t(input.columns);
  in.array(input.minimum, columns);
  in.array(input.maximum, columns);
  for (auto *sums : {&input.sum, &input.sumAbs, &input.sumSquare, &input.sumCube, &input.sumFourth})
    in.array(*sums, columns);
  in.array(input.outliers, columns);
  in.array(input.histogram, InputStatistics::bins);
  mapped = in.view<float>(hessian ? columns * (columns + 1) / 2 : 0);
  auto bad = [](auto v) { return !std::isfinite(v); };
  bool wrong = llvm::any_of(input.minimum, bad) || llvm::any_of(input.maximum, bad) ||
               llvm::any_of(mapped, bad);
  for (auto *sums : {&input.sum, &input.sumAbs, &input.sumSquare, &input.sumCube, &input.sumFourth})
    wrong |= llvm::any_of(*sums, bad);
  if (wrong)
    return "holds a number that is not finite";
  for (uint64_t k = 0; k < columns; ++k) {
    if (input.sumSquare[k] < 0 || (hessian && mapped[k * (k + 3) / 2] < 0))
      return "has a negative sum of squares in column " + std::to_string(k);
    input.absMax.push_back(std::max(std::fabs(input.minimum[k]), std::fabs(input.maximum[k])));
  }
  if (input.rows == 0) {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    input.minimum.assign(columns, infinity);
    input.maximum.assign(columns, -infinity);
  }
  return "";
}

Expected<Statistics> Statistics::read(StringRef path) {
  auto buffer = llvm::MemoryBuffer::getFile(path, /*IsText=*/false,
                                            /*RequiresNullTerminator=*/false);
  if (!buffer)
    return createStringError("cannot read '" + path + "': " + buffer.getError().message());
  StringRef bytes = (*buffer)->getBuffer();
  auto bad = [&](const llvm::Twine &what) { return createStringError("'" + path + "': " + what); };
  if (!bytes.starts_with(magic)) {
    if (bytes.starts_with(anyMagic))
      return bad("is a file of statistics of another version: expected " + magic + ", found " +
                 bytes.take_front(magic.size()) + "; run quern calibrate again");
    return bad("is not a file of statistics: expected it to begin with " + magic);
  }
  Reader head(bytes.drop_front(magic.size()));
  uint64_t size = head.get<uint64_t>(), place = head.get<uint64_t>(), hash = head.get<uint64_t>();
  if (head.failed || size != bytes.size() || place < headBytes || place > size)
    return bad("is cut off or damaged: expected " + llvm::Twine(size) + " bytes, found " +
               llvm::Twine(bytes.size()));
  StringRef directory = bytes.drop_front(place);
  if (hash != llvm::xxh3_64bits(directory))
    return bad("is damaged: its hash does not match");
  Reader in(directory);
  Statistics out;
  out.model = llvm::json::fixUTF8(in.string());
  out.text = llvm::json::fixUTF8(in.string());
  out.tokens = in.get<uint64_t>();
  out.window = in.get<uint32_t>();
  uint32_t inputs = in.get<uint32_t>();
  uint64_t total = 0;
  for (uint32_t i = 0; i < inputs && !in.failed; ++i) {
    uint64_t begin;
    bool hessian;
    InputStatistics input = readEntry(in, begin, hessian);
    if (in.failed)
      break;
    auto damaged = [&](const llvm::Twine &what) {
      return bad("is damaged: the input of '" + input.name() + "' " + what);
    };
    uint64_t columns = uint64_t(input.columns);
    if (columns < 1 || columns > maxColumns)
      return damaged("has " + llvm::Twine(columns) + " columns");
    if (input.rows > maxRows)
      return damaged("saw " + llvm::Twine(input.rows) + " rows");
    if (input.weights.size() > maxWeights)
      return damaged("is that of " + llvm::Twine(input.weights.size()) + " weights, more than " +
                     llvm::Twine(maxWeights));
    if (!llvm::all_of(input.weights, isWeightName))
      return damaged("has a name that is none");
    if (input.expert < -1)
      return damaged("is of expert " + llvm::Twine(input.expert));
    if (input.positions > Positions::Rest)
      return damaged("is of unknown positions");
    uint64_t length = blockBytes(input) + (hessian ? triangleBytes(columns) : 0);
    if (begin % 8 || begin < headBytes || begin > place || length > place - begin)
      return damaged("lies outside of the file");
    if ((total += length) > place) // or a small file could fill the memory
      return damaged("shares its sums with another");
    StringRef block = bytes.substr(begin, length);
    if (llvm::xxh3_64bits(block) != input.hash)
      return damaged("has another hash");
    if (std::string problem = readBlock(block, input, input.mapped, hessian); !problem.empty())
      return damaged(problem);
    out.inputs.push_back(std::move(input));
  }
  if (in.failed || !in.rest.empty())
    return bad("is damaged: its lengths do not add up");
  out.file = std::move(*buffer);
  return out;
}
