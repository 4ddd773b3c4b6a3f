// Fuzzes the files the quantizer reads: statistics, choices of formats, times of kernels; then what
// is done with them.
#include "Files.h"
#include "Generator.h"
#include "quern/Quantize/Allocation.h"
#include "quern/Quantize/Cost.h"
#include "quern/Quantize/Statistics.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/xxhash.h"

using namespace quern::quantize;
using quern::fuzz::Decisions;
using quern::fuzz::Folder;

namespace {

const char *const matrices[] = {"blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.1.ffn_up.weight",
                                "output.weight", ""};

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
    InputStatistics input(std::move(names), 1 + d.below(5));
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

/// Bytes changed behind the header, whose size and hash are put right again more often than not.
void damage(Decisions &d, std::string &file) {
  constexpr size_t head = 24, hashAt = 16;
  std::string body = file.substr(head);
  quern::fuzz::spoil(d, body, 2);
  file = file.substr(0, head) + body;
  if (d.rarely(30))
    return;
  uint64_t words[2] = {file.size(), llvm::xxh3_64bits(body)};
  std::memcpy(file.data() + hashAt - 8, words, sizeof(words));
  quern::fuzz::spoil(d, file, 40);
}

bool fuzzStatistics(Decisions &d, Folder &folder, quern::fuzz::Tally &tally) {
  std::string path = folder.path("s.qst");
  unsigned inputs = d.below(4);
  if (llvm::Error e = statistics(d, inputs).write(path, /*force=*/true))
    abort();
  std::string file = slurp(path);
  damage(d, file);
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
      if (!read->find(name))
        abort();
  std::string text;
  llvm::raw_string_ostream os(text);
  read->print(os);
  os << llvm::json::Value(read->summary());
  Statistics other = *read;
  if (llvm::Error e = other.merge(*read)) // the same inputs
    abort();
  // What was read can be written, and is then the same.
  if (llvm::Error e = read->write(path, /*force=*/true))
    abort();
  return good(Statistics::read(path));
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

bool fuzzJson(Decisions &d, Folder &folder, quern::fuzz::Tally &tally, bool isAllocation) {
  std::string text = isAllocation ? allocation(d) : times(d);
  quern::fuzz::spoil(d, text, 8);
  if (d.rarely(100))
    text = std::string(100 * d.byte(), '[');
  folder.write("j.json", text);
  std::string path = folder.path("j.json"), message;
  if (isAllocation) {
    message = llvm::toString(readAllocation(path).takeError());
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
  ++tally.runs;
  unsigned kind = d.below(3);
  tally.accepted += kind == 0 ? fuzzStatistics(d, folder, tally)
                              : fuzzJson(d, folder, tally, /*isAllocation=*/kind == 1);
  return 0;
}
