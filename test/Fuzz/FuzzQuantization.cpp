// Fuzzes the files the quantizer reads: statistics, choices of formats, times of kernels, recipes;
// then what is done with them.
#include "Files.h"
#include "Generator.h"
#include "quern/Quantize/Allocation.h"
#include "quern/Quantize/Cost.h"
#include "quern/Quantize/Recipe.h"
#include "quern/Quantize/Statistics.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/xxhash.h"

using namespace quern::quantize;
using quern::fuzz::Decisions;
using quern::fuzz::Folder;

namespace {

const char *const matrices[] = {"blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.1.ffn_up.weight",
                                "output.weight", "blk.0.ffn_down.weight"};

template <typename T> bool good(llvm::Expected<T> value) {
  if (value)
    return true;
  llvm::consumeError(value.takeError());
  return false;
}

//===--- Statistics -------------------------------------------------------===//

Statistics statistics(Decisions &d, unsigned inputs) {
  Statistics out;
  out.model = "m";
  out.text = d.text(3);
  out.tokens = d.count(9);
  for (unsigned i = 0; i < inputs; ++i) {
    std::vector<std::string> names(d.below(3));
    for (std::string &name : names)
      name = d.pick(matrices);
    InputStatistics input(std::move(names), 1 + d.below(5), /*hessian=*/d.below(3) != 0);
    input.expert = int32_t(d.below(3)) - 1;
    input.positions = Positions(d.below(3));
    std::vector<float> row(input.columns);
    for (unsigned rows = d.below(3); rows > 0; --rows) {
      for (float &v : row)
        v = float(d.byte()) - 128;
      input.add(row.data(), 1);
    }
    out.inputs.push_back(std::move(input));
  }
  return out;
}

std::string slurp(const std::string &path) {
  auto buffer = llvm::MemoryBuffer::getFile(path);
  if (!buffer)
    abort();
  return (*buffer)->getBuffer().str();
}

template <typename T> T readAt(const std::string &file, size_t at) {
  T value;
  std::memcpy(&value, file.data() + at, sizeof(T));
  return value;
}
template <typename T> void writeAt(std::string &file, size_t at, T value) {
  std::memcpy(file.data() + at, &value, sizeof(T));
}

/// Changes a good file: a block of sums, or the directory. Hashes and the size are put right again
/// more often than not.
void damage(Decisions &d, std::string &file, unsigned inputs) {
  bool mended = !d.rarely(30);
  uint64_t directory = readAt<uint64_t>(file, 16);
  size_t at = directory;
  auto skipString = [&] { at += 4 + readAt<uint32_t>(file, at); };
  skipString();
  skipString();
  at += 16; // tokens, window, inputs
  for (unsigned i = 0; i < inputs; ++i) {
    uint32_t weights = readAt<uint32_t>(file, at);
    at += 4;
    for (uint32_t w = 0; w < weights; ++w)
      skipString();
    at += 4 + 2 + 16; // expert, flags, columns, rows
    uint64_t begin = readAt<uint64_t>(file, at), end = directory;
    if (i + 1 == inputs && d.below(2)) { // the last block ends where the directory begins
      for (unsigned changes = 1 + d.below(3); changes > 0; --changes)
        writeAt(file, begin + (d.byte() << 8 | d.byte()) % (end - begin - 7), d.word());
      if (mended)
        writeAt(file, at + 8, llvm::xxh3_64bits(llvm::StringRef(file).slice(begin, end)));
    }
    at += 16;
  }
  std::string entries = file.substr(directory);
  quern::fuzz::spoil(d, entries, 2);
  file = file.substr(0, directory) + entries;
  if (mended) {
    writeAt(file, 8, uint64_t(file.size()));
    writeAt(file, 24, llvm::xxh3_64bits(entries));
  }
  quern::fuzz::spoil(d, file, 40);
}

bool fuzzStatistics(Decisions &d, bool writes, Folder &folder, quern::fuzz::Tally &tally) {
  std::string path = folder.path("s.qst");
  unsigned inputs = d.below(4);
  if (llvm::Error e = statistics(d, inputs).write(path, /*force=*/true))
    abort();
  std::string file = slurp(path);
  damage(d, file, inputs);
  folder.write("s.qst", file);
  isStatistics(path);
  llvm::Expected<Statistics> read = Statistics::read(path);
  if (!read) {
    std::string message = llvm::toString(read.takeError());
    quern::fuzz::show(message);
    tally.header += message.find("is damaged: ") != std::string::npos &&
                    message.find("hash") == std::string::npos;
    return false;
  }
  ++tally.header;
  for (const InputStatistics &input : read->inputs)
    for (const std::string &name : input.weights)
      read->find(name, input.expert);
  std::string text;
  llvm::raw_string_ostream os(text);
  read->print(os);
  os << llvm::json::Value(read->summary());
  for (const InputStatistics &input : read->inputs)
    for (int64_t i = 0; i < std::min<int64_t>(input.columns, 8); ++i)
      os << input.at(i, 0) << input.meanSquare(i);
  Statistics other = *read;
  if (llvm::Error e = other.merge(*read)) // the same inputs
    abort();
  if (!writes)
    return true;
  // What was read can be written, and read again.
  if (llvm::Error e = read->write(path, /*force=*/true))
    abort();
  if (!good(Statistics::read(path)))
    abort();
  std::string matrix = folder.path("out.gguf");
  if (llvm::Error e = Statistics::writeSum({*read, other}, matrix, /*force=*/true))
    llvm::consumeError(std::move(e)); // the inputs of a weight may differ, or be too large
  else if (!good(Statistics::readAny(matrix, nullptr)))
    abort();
  return true;
}

//===--- JSON -------------------------------------------------------------===//

std::string value(Decisions &d, const std::string &usual) {
  static const char *const odd[] = {"null", "[]",    "{}",    "-1",
                                    "0",    "1e300", "0.5",   "1e999",
                                    "\"\"", "true",  "[[1]]", "9223372036854775808"};
  return d.rarely(24) ? d.pick(odd) : usual;
}

std::string formatName(Decisions &d) {
  static const char *const formats[] = {"Q4_K", "Q8_0", "F32", "NOPE"};
  return std::string("\"") + d.pick(formats) + "\"";
}

std::string allocation(Decisions &d) {
  std::string tensors;
  for (unsigned n = d.below(4); n > 0; --n)
    tensors += (tensors.empty() ? "\"" : ",\"") + std::to_string(n) + d.pick(matrices) +
               "\":" + value(d, formatName(d));
  return "{\"quern\":" + value(d, "\"allocation\"") + ",\"version\":" + value(d, "1") +
         ",\"tensors\":" + value(d, "{" + tensors + "}") + "}";
}

std::string times(Decisions &d) {
  std::string kernels;
  for (unsigned n = d.below(4); n > 0; --n)
    kernels += (kernels.empty() ? "" : ",") +
               value(d, "{\"format\":" + value(d, formatName(d)) +
                            ",\"rows\":" + value(d, std::to_string(1 + d.below(9))) +
                            ",\"columns\":" + value(d, std::to_string(1 + d.below(9))) +
                            ",\"seconds\":" + value(d, "1e-6") + "}");
  return "{\"quern\":" + value(d, "\"kernel times\"") + ",\"version\":" + value(d, "1") +
         ",\"cpu\":" + value(d, "\"c\"") + ",\"threads\":" + value(d, "2") +
         ",\"other\":" + value(d, "0.001") + ",\"kernels\":" + value(d, "[" + kernels + "]") + "}";
}

std::string recipe(Decisions &d) {
  static const char *const names[] = {"solver", "bits", "override", "inputs", "recipe", "text"};
  std::string options;
  for (unsigned n = d.below(5); n > 0; --n) {
    std::string name = d.pick(names), usual = "\"x=F32\"";
    if (name == "bits")
      usual = value(d, "4.5");
    else if (name == "override")
      usual = "[" + value(d, usual) + ",\"y=F16\"]";
    else if (name == "inputs")
      usual = "{\"model\":" + value(d, "\"00\"") + ",\"text\":\"01\"}";
    if (options.find(name) == std::string::npos && (name != "recipe" || d.rarely(20)))
      options += (options.empty() ? "\"" : ",\"") + name + "\":" + value(d, usual);
  }
  return d.below(2) ? "{" + options + "}"
                    : "{\"bytes\":1,\"recipe\":" + value(d, "{" + options + "}") + "}";
}

/// Its message, if there is one.
std::string useRecipe(const std::string &path) {
  llvm::Expected<Recipe> read = readRecipe(path);
  if (!read)
    return llvm::toString(read.takeError());
  if (llvm::Error e =
          checkInputs(read->inputs, llvm::json::Object{{"model", "00"}, {"text", "00"}}))
    llvm::consumeError(std::move(e));
  if (llvm::Error e = checkInputs(read->inputs, read->inputs))
    abort();
  return "";
}

enum class Document { Allocation, Times, Recipe };

bool fuzzJson(Decisions &d, Folder &folder, quern::fuzz::Tally &tally, Document kind) {
  std::string text = kind == Document::Allocation ? allocation(d)
                     : kind == Document::Times    ? times(d)
                                                  : recipe(d);
  quern::fuzz::spoil(d, text, 8);
  if (d.rarely(100))
    text = std::string(100 * d.byte(), '[');
  folder.write("j.json", text);
  std::string path = folder.path("j.json"), message;
  if (kind == Document::Allocation) {
    message = llvm::toString(readAllocation(path).takeError());
  } else if (kind == Document::Recipe) {
    message = useRecipe(path);
  } else if (llvm::Expected<KernelTimes> read = KernelTimes::read(path)) {
    good(read->seconds("Q4_K", 4, 256));
    if (llvm::Error e = read->write(path, /*force=*/true))
      abort();
    if (!good(KernelTimes::read(path)))
      abort();
  } else {
    message = llvm::toString(read.takeError());
  }
  quern::fuzz::show(message);
  tally.header += message.find("JSON") == std::string::npos;
  return message.empty();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  static quern::fuzz::Tally tally("files of the quantizer");
  static Folder folder;
  Decisions d(bytes, size);
  quern::fuzz::forgetOutputs();
  ++tally.runs;
  unsigned kind = d.below(4);
  // Files cost the most time. Chosen by all bytes, since those that are read run out.
  bool writes = llvm::xxh3_64bits(llvm::ArrayRef(bytes, size)) % 4 == 0;
  tally.accepted += kind == 0 ? fuzzStatistics(d, writes, folder, tally)
                              : fuzzJson(d, folder, tally, Document(kind - 1));
  return 0;
}
