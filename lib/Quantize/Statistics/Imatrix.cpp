//===- Imatrix.cpp - llama.cpp's importance matrices ----------------------===//
//
// For each weight the sums of x_k^2 of its input and how many rows they are of; a stack of experts
// has such sums and a number for each. Two formats:
//
// GGUF with general.type "imatrix", imatrix.datasets (strings), imatrix.chunk_count and
// imatrix.chunk_size (u32), and tensors of f32: NAME.in_sum2 [matrices, K], NAME.counts
// [matrices, 1].
//
// Legacy: i32 entries; each: i32 length and bytes of NAME, i32 calls, i32 values, f32 values: means
// of x_k^2, times calls. Then i32 chunks, and i32 length and bytes of the dataset's name.
//
//===----------------------------------------------------------------------===//
#include "quern/Import/Parsers.h"
#include "quern/Quantize/Statistics.h"
#include "quern/Support/Json.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/MathExtras.h"
#include "llvm/Support/xxhash.h"
#include <cfloat>
#include <cmath>
#include <map>

using namespace quern;
using namespace quern::quantize;
using llvm::ArrayRef;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
namespace endian = llvm::support::endian;

bool quern::quantize::isImatrixName(StringRef path) {
  return path.ends_with(".gguf") || path.ends_with(".dat");
}

bool quern::quantize::isImatrix(StringRef path) {
  if (path.ends_with(".dat"))
    return true;
  // Among the first keys. Models name their matrix, too, so the whole pair is compared.
  static constexpr char pair[] = "general.type\x08\0\0\0\x07\0\0\0\0\0\0\0imatrix";
  auto start = llvm::MemoryBuffer::getFileSlice(path, 4096, 0);
  StringRef bytes = start ? (*start)->getBuffer() : "";
  return bytes.starts_with("GGUF") && bytes.contains(StringRef(pair, sizeof(pair) - 1));
}

static float readFloat(const char *bytes) { return llvm::bit_cast<float>(endian::read32le(bytes)); }

/// Beyond its values a matrix takes some hundred bytes, so that very many narrow ones would take
/// far more memory than their file: no model has so many of so few columns.
static constexpr size_t manyMatrices = 1024;
static constexpr int64_t fewColumns = 16;

/// An input of `rows` rows whose sums are the f32 at `bytes`; what is wrong with them.
static std::string addInput(Statistics &out, StringRef weight, int32_t expert, uint64_t rows,
                            StringRef bytes) {
  auto input = InputStatistics::squaresOf({weight.str()}, int64_t(bytes.size() / sizeof(float)));
  input.expert = expert;
  if (input.columns < fewColumns && out.inputs.size() >= manyMatrices)
    return "it has more than " + std::to_string(manyMatrices) + " matrices, and that of '" +
           input.name() + "' only " + std::to_string(input.columns) + " columns";
  input.rows = rows;
  for (size_t k = 0; k < input.sumSquare.size(); ++k) {
    float value = readFloat(bytes.data() + k * sizeof(float));
    if (!std::isfinite(value) || value < 0)
      return "the importance of '" + input.name() + "' holds " + std::to_string(value) +
             " for column " + std::to_string(k);
    input.sumSquare[k] = double(value);
  }
  input.hash = llvm::xxh3_64bits(bytes) + rows;
  out.inputs.push_back(std::move(input));
  return "";
}

static Expected<Statistics> parseGguf(StringRef bytes, StringRef path) {
  auto bad = [&](const llvm::Twine &what) { return createStringError("'" + path + "': " + what); };
  import::ModelFile file;
  if (Error e = import::parseGGUF(bytes, bytes.size(), path, 0, file))
    return std::move(e);
  StringRef type = file.metadata.getString("general.type").value_or("");
  if (type != "imatrix")
    return bad("is no importance matrix: expected general.type 'imatrix', found '" + type + "'");
  Statistics out;
  out.squaresOnly = true;
  auto number = [&](StringRef key) {
    return uint64_t(std::clamp<int64_t>(integerOf(file.metadata, key).value_or(0), 0, UINT32_MAX));
  };
  out.window = uint32_t(number("imatrix.chunk_size"));
  out.tokens = number("imatrix.chunk_count") * out.window;
  if (const llvm::json::Array *names = file.metadata.getArray("imatrix.datasets"))
    for (const llvm::json::Value &name : *names)
      out.text += (out.text.empty() ? "" : ", ") + name.getAsString().value_or("").str();
  std::map<StringRef, std::pair<const import::TensorInfo *, const import::TensorInfo *>> pairs;
  for (const import::TensorInfo &tensor : file.tensors) {
    StringRef name = tensor.name;
    if (name.consume_back(".in_sum2"))
      pairs[name].first = &tensor;
    else if (name.consume_back(".counts"))
      pairs[name].second = &tensor;
    else
      continue; // other programs may keep more
    if (!isWeightName(name))
      return bad("tensor '" + tensor.name + "' is of no weight");
    if (tensor.fileType != "F32")
      return bad("tensor '" + tensor.name + "' is " + tensor.fileType + ", expected F32");
  }
  for (auto &[name, pair] : pairs) {
    auto [sums, counts] = pair;
    if (!sums || !counts)
      return bad("has only one of the tensors '" + name + ".in_sum2' and '" + name + ".counts'");
    int64_t columns = sums->shape.empty() ? 0 : sums->shape.back();
    int64_t matrices = counts->elements();
    if (columns < 1 || matrices < 1 || sums->elements() != columns * matrices)
      return bad("tensor '" + name + ".counts' has " + llvm::Twine(matrices) +
                 " values, expected one for each row of '" + name + ".in_sum2', which has " +
                 llvm::Twine(columns < 1 ? 0 : sums->elements() / columns));
    for (int64_t m = 0; m < matrices; ++m) {
      float count = readFloat(bytes.data() + counts->offset + uint64_t(m) * sizeof(float));
      if (!(count >= 0 && count < 1e18f))
        return bad("tensor '" + name + ".counts' holds " + std::to_string(count));
      std::string problem =
          addInput(out, name, matrices > 1 ? int32_t(m) : -1, uint64_t(count),
                   bytes.substr(sums->offset + uint64_t(m * columns) * sizeof(float),
                                uint64_t(columns) * sizeof(float)));
      if (!problem.empty())
        return bad(problem);
    }
  }
  return out;
}

static Expected<Statistics> parseLegacy(StringRef bytes, StringRef path) {
  auto bad = [&](const llvm::Twine &what) {
    return createStringError("'" + path + "' is no importance matrix, or damaged: " + what);
  };
  Statistics out;
  out.squaresOnly = true;
  StringRef rest = bytes;
  bool failed = false;
  auto number = [&]() -> int32_t {
    if (rest.size() < 4) {
      failed = true;
      return 0;
    }
    auto value = int32_t(endian::read32le(rest.data()));
    rest = rest.drop_front(4);
    return value;
  };
  auto take = [&](int64_t size) -> StringRef {
    if (failed || size < 0 || uint64_t(size) > rest.size()) {
      failed = true;
      return "";
    }
    StringRef part = rest.take_front(size_t(size));
    rest = rest.drop_front(size_t(size));
    return part;
  };
  int32_t entries = number();
  if (entries < 1)
    return bad("it has " + llvm::Twine(entries) + " entries");
  for (int32_t i = 0; i < entries && !failed; ++i) {
    StringRef name = take(number());
    int32_t calls = number(), values = number();
    StringRef sums = take(int64_t(values) * int64_t(sizeof(float)));
    if (failed || values < 1 || name.empty())
      return bad("entry " + llvm::Twine(i) + " is cut off");
    if (!isWeightName(name))
      return bad("entry " + llvm::Twine(i) + " has a name that is none");
    std::string problem = addInput(out, name, -1, uint64_t(std::max(calls, 1)), sums);
    if (!problem.empty())
      return bad(problem);
  }
  // Old files end here.
  if (int32_t chunks = rest.empty() ? 0 : number(); chunks > 0)
    out.tokens = uint64_t(chunks);
  if (!rest.empty())
    out.text = llvm::json::fixUTF8(take(number()));
  if (failed || !rest.empty())
    return bad("its lengths do not add up");
  return out;
}

Expected<Statistics> quern::quantize::parseImatrix(StringRef bytes, StringRef path) {
  return bytes.starts_with("GGUF") ? parseGguf(bytes, path) : parseLegacy(bytes, path);
}

Expected<Statistics> Statistics::readAny(StringRef path,
                                         llvm::function_ref<void(const std::string &)> note) {
  auto buffer = llvm::MemoryBuffer::getFile(path, /*IsText=*/false,
                                            /*RequiresNullTerminator=*/false);
  if (!buffer)
    return createStringError("cannot read '" + path + "': " + buffer.getError().message());
  if (!(*buffer)->getBuffer().starts_with("GGUF") && !path.ends_with(".dat"))
    return read(path);
  Expected<Statistics> out = parseImatrix((*buffer)->getBuffer(), path);
  if (!out || !note)
    return out;
  for (const InputStatistics &input : out->inputs)
    if (!input.rows)
      note("'" + path.str() + "' saw nothing of '" + input.name() + "'");
  return out;
}

void Statistics::splitExperts(StringRef weight, int64_t experts, int64_t columns) {
  const InputStatistics *found = find(weight);
  if (!squaresOnly || !found || found->columns != experts * columns)
    return;
  InputStatistics all = *found;
  inputs.erase(inputs.begin() + (found - inputs.data()));
  for (int64_t e = 0; e < experts; ++e) {
    auto input = InputStatistics::squaresOf(all.weights, columns);
    input.expert = int32_t(e);
    input.rows = all.rows;
    input.sumSquare.assign(all.sumSquare.begin() + e * columns,
                           all.sumSquare.begin() + (e + 1) * columns);
    input.hash = all.hash;
    inputs.push_back(std::move(input));
  }
}

namespace {
/// The sums of a weight, matrix after matrix.
struct Entry {
  int64_t columns = 0;
  std::vector<float> sums, counts;
};
} // namespace

/// By weight, in the order of their names. Fails for sums that are too large for the formats' f32.
static Expected<std::map<std::string, Entry>> entriesOf(const Statistics &statistics) {
  std::map<std::string, std::vector<const InputStatistics *>> byWeight;
  for (const InputStatistics &input : statistics.inputs)
    for (const std::string &weight : input.weights)
      byWeight[weight].push_back(&input);
  std::map<std::string, Entry> out;
  for (const auto &[weight, inputs] : byWeight) {
    Entry &entry = out[weight];
    entry.columns = inputs.front()->columns;
    size_t columns = size_t(entry.columns), last = 0;
    for (const InputStatistics *input : inputs)
      last = std::max(last, size_t(std::max(input->expert, 0)));
    if (last >= inputs.size()) // would take memory for all before it
      return createStringError("the statistics name an expert " + llvm::Twine(last) + " of '" +
                               weight + "', but have only " + llvm::Twine(uint64_t(inputs.size())) +
                               " of its inputs");
    entry.counts.resize(last + 1);
    entry.sums.resize((last + 1) * columns);
    for (const InputStatistics *input : inputs) {
      if (input->columns != entry.columns)
        return createStringError("the inputs of '" + weight + "' differ in their columns");
      auto matrix = size_t(std::max(input->expert, 0));
      // First tokens may be apart.
      entry.counts[matrix] += float(input->rows);
      for (size_t k = 0; k < columns; ++k)
        if (!std::isfinite(entry.sums[matrix * columns + k] += float(input->sumSquare[k])))
          return createStringError("the importance of '" + input->name() +
                                   "' is too large to be written, in column " + llvm::Twine(k));
    }
  }
  return out;
}

namespace {
class Bytes {
public:
  template <typename T> void put(T value) {
    char raw[sizeof(T)];
    endian::write<T>(raw, value, llvm::endianness::little);
    data.append(raw, sizeof(T));
  }
  template <typename Length> void string(StringRef text) {
    put(Length(text.size()));
    data += text;
  }
  void floats(ArrayRef<float> values) {
    for (float v : values)
      put(v);
  }
  std::string data;
};
} // namespace

/// GGUF's numbers for kinds of metadata and of tensors.
enum : uint32_t { GgufU32 = 4, GgufString = 8, GgufArray = 9, GgmlF32 = 0 };

static std::string writeGguf(const Statistics &head, const std::map<std::string, Entry> &entries) {
  constexpr uint64_t alignment = 32;
  Bytes out;
  out.data = "GGUF";
  out.put(uint32_t(3));
  out.put(uint64_t(2 * entries.size()));
  out.put(uint64_t(4));
  auto key = [&](StringRef name, uint32_t type) {
    out.string<uint64_t>(name);
    out.put(type);
  };
  key("general.type", GgufString);
  out.string<uint64_t>("imatrix");
  key("imatrix.datasets", GgufArray);
  out.put(uint32_t(GgufString));
  llvm::SmallVector<StringRef> texts;
  StringRef(head.text).split(texts, ", ", -1, /*KeepEmpty=*/false);
  out.put(uint64_t(texts.size()));
  for (StringRef text : texts)
    out.string<uint64_t>(text);
  uint32_t window = std::max<uint32_t>(head.window, 1);
  key("imatrix.chunk_count", GgufU32);
  out.put(uint32_t(std::min<uint64_t>(head.tokens / window, UINT32_MAX)));
  key("imatrix.chunk_size", GgufU32);
  out.put(window);
  uint64_t offset = 0;
  auto tensor = [&](const std::string &name, uint64_t columns, size_t values) {
    out.string<uint64_t>(name);
    out.put(uint32_t(2));
    out.put(columns);
    out.put(uint64_t(values) / columns);
    out.put(uint32_t(GgmlF32));
    out.put(offset);
    offset = llvm::alignTo(offset + values * sizeof(float), alignment);
  };
  for (const auto &[name, entry] : entries) {
    tensor(name + ".in_sum2", uint64_t(entry.columns), entry.sums.size());
    tensor(name + ".counts", 1, entry.counts.size());
  }
  auto pad = [&] { out.data.resize(llvm::alignTo(out.data.size(), alignment)); };
  pad();
  for (const auto &[name, entry] : entries) {
    out.floats(entry.sums);
    pad();
    out.floats(entry.counts);
    pad();
  }
  return std::move(out.data);
}

static std::string writeLegacy(const Statistics &head,
                               const std::map<std::string, Entry> &entries) {
  double window = std::max<double>(head.window, 1);
  Bytes out;
  out.put(int32_t(entries.size()));
  for (const auto &[name, entry] : entries) {
    out.string<int32_t>(name);
    double most = std::ceil(double(*llvm::max_element(entry.counts)) / window);
    float calls = float(std::min<double>(most, 1 << 30));
    out.put(int32_t(calls));
    out.put(int32_t(entry.sums.size()));
    for (size_t i = 0; i < entry.sums.size(); ++i) {
      // As there: what was not seen counts 1.
      float count = entry.counts[i / size_t(entry.columns)];
      out.put(count > 0 ? std::min(entry.sums[i] / count * calls, FLT_MAX) : calls);
    }
  }
  out.put(int32_t(std::min<double>(double(head.tokens) / window, INT32_MAX)));
  out.string<int32_t>(head.text);
  return std::move(out.data);
}

Error Statistics::writeImatrix(StringRef path, bool force) const {
  Expected<std::map<std::string, Entry>> entries = entriesOf(*this);
  if (!entries)
    return entries.takeError();
  Expected<OutputFile> out = OutputFile::create(path, force);
  if (!out)
    return out.takeError();
  out->stream() << (path.ends_with(".dat") ? writeLegacy(*this, *entries)
                                           : writeGguf(*this, *entries));
  return out->keep();
}
