//===- File.cpp - The file of statistics ----------------------------------===//
//
// See Statistics.h for the layout. Reading checks a hash first and trusts nothing even then.
//
//===----------------------------------------------------------------------===//
#include "quern/Quantize/Statistics.h"
#include "quern/Support/OutputFile.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/xxhash.h"
#include <cmath>

using namespace quern::quantize;
using llvm::ArrayRef;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
namespace endian = llvm::support::endian;

namespace {
constexpr StringRef magic = "QUERNST1";
/// Magic, size, hash.
constexpr uint64_t headBytes = 24;
/// Products of models are narrower; a larger K is a damaged file.
constexpr uint64_t maxColumns = 1 << 20;

class Writer {
public:
  template <typename T> void put(T value) {
    char raw[sizeof(T)];
    endian::write<T>(raw, value, llvm::endianness::little);
    bytes.append(raw, raw + sizeof(T));
  }
  void string(StringRef text) {
    put(uint32_t(text.size()));
    bytes.append(text.begin(), text.end());
  }
  template <typename T> void array(const std::vector<T> &values) {
    for (T v : values)
      put(v);
  }
  std::string bytes;
};

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
  template <typename T> std::vector<T> array(uint64_t count) {
    std::vector<T> values;
    if (failed || count > rest.size() / sizeof(T)) {
      failed = true;
      return values;
    }
    values.resize(count);
    for (T &v : values)
      v = get<T>();
    return values;
  }
  StringRef rest;
  bool failed = false;
};
} // namespace

bool quern::quantize::isStatistics(StringRef path) {
  auto start = llvm::MemoryBuffer::getFileSlice(path, magic.size(), 0);
  return start && (*start)->getBuffer() == magic;
}

Error Statistics::write(StringRef path, bool force) const {
  Writer out;
  out.string(model);
  out.string(text);
  out.put(tokens);
  out.put(uint32_t(inputs.size()));
  for (const InputStatistics &input : inputs) {
    out.put(uint32_t(input.weights.size()));
    for (const std::string &name : input.weights)
      out.string(name);
    out.put(uint64_t(input.columns));
    out.put(input.rows);
    out.array(input.absMax);
    out.array(input.sum);
    out.array(input.sumAbs);
    out.array(input.sumFourth);
    for (int64_t i = 0; i < input.columns; ++i)
      for (int64_t j = 0; j <= i; ++j)
        out.put(float(input.hessian[i * input.columns + j]));
  }
  Writer head;
  head.bytes = magic.str();
  head.put(uint64_t(headBytes + out.bytes.size()));
  head.put(llvm::xxh3_64bits(out.bytes));
  Expected<OutputFile> file = OutputFile::create(path, force);
  if (!file)
    return file.takeError();
  file->stream() << head.bytes << out.bytes;
  return file->keep();
}

/// One input; on damage the reader has failed or `problem` says what is wrong.
static InputStatistics readInput(Reader &in, std::string &problem) {
  InputStatistics input;
  uint32_t weights = in.get<uint32_t>();
  for (uint32_t i = 0; i < weights && !in.failed; ++i)
    input.weights.push_back(in.string());
  uint64_t columns = in.get<uint64_t>();
  input.rows = in.get<uint64_t>();
  std::string name = input.weights.empty() ? "" : " of '" + input.weights[0] + "'";
  if (columns > maxColumns) {
    problem = "the input" + name + " has " + std::to_string(columns) + " columns";
    return input;
  }
  input.columns = int64_t(columns);
  input.absMax = in.array<float>(columns);
  input.sum = in.array<double>(columns);
  input.sumAbs = in.array<double>(columns);
  input.sumFourth = in.array<double>(columns);
  std::vector<float> triangle = in.array<float>(columns * (columns + 1) / 2);
  if (in.failed)
    return input;
  auto bad = [](auto v) { return !std::isfinite(v); };
  if (llvm::any_of(input.absMax, bad) || llvm::any_of(input.sum, bad) ||
      llvm::any_of(input.sumAbs, bad) || llvm::any_of(input.sumFourth, bad) ||
      llvm::any_of(triangle, bad)) {
    problem = "the input" + name + " holds a number that is not finite";
    return input;
  }
  input.hessian.resize(columns * columns);
  size_t at = 0;
  for (uint64_t i = 0; i < columns; ++i)
    for (uint64_t j = 0; j <= i; ++j)
      input.hessian[i * columns + j] = triangle[at++];
  for (uint64_t k = 0; k < columns; ++k)
    if (input.at(int64_t(k), int64_t(k)) < 0)
      problem =
          "the input" + name + " has a negative sum of squares in column " + std::to_string(k);
  return input;
}

Expected<Statistics> Statistics::read(StringRef path) {
  auto buffer = llvm::MemoryBuffer::getFile(path, /*IsText=*/false,
                                            /*RequiresNullTerminator=*/false);
  if (!buffer)
    return createStringError("cannot read '" + path + "': " + buffer.getError().message());
  StringRef bytes = (*buffer)->getBuffer();
  auto bad = [&](const llvm::Twine &what) { return createStringError("'" + path + "': " + what); };
  if (!bytes.starts_with(magic))
    return bad("is not a file of statistics: expected it to begin with " + magic);
  Reader in(bytes.drop_front(magic.size()));
  uint64_t size = in.get<uint64_t>(), hash = in.get<uint64_t>();
  if (in.failed || size != bytes.size())
    return bad("is cut off or damaged: expected " + llvm::Twine(size) + " bytes, found " +
               llvm::Twine(bytes.size()));
  if (hash != llvm::xxh3_64bits(bytes.drop_front(headBytes)))
    return bad("is damaged: its hash does not match");
  Statistics out;
  out.model = in.string();
  out.text = in.string();
  out.tokens = in.get<uint64_t>();
  uint32_t inputs = in.get<uint32_t>();
  for (uint32_t i = 0; i < inputs && !in.failed; ++i) {
    std::string problem;
    out.inputs.push_back(readInput(in, problem));
    if (!problem.empty() && !in.failed)
      return bad("is damaged: " + problem);
  }
  if (in.failed || !in.rest.empty())
    return bad("is damaged: its lengths do not add up");
  return out;
}
