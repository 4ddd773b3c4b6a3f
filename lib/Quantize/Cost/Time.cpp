//===- Time.cpp - Seconds of a token --------------------------------------===//
//
// From a table of how fast kernels read weights, or from times measured on a host.
//
//===----------------------------------------------------------------------===//
#include "CostModels.h"
#include "quern/Support/Json.h"
#include "quern/Support/OutputFile.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/MemoryBuffer.h"
#include <cmath>

using namespace quern;
using namespace quern::quantize;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
namespace json = llvm::json;

Expected<KernelTimes> KernelTimes::read(StringRef path) {
  auto buffer = llvm::MemoryBuffer::getFile(path);
  if (!buffer)
    return createStringError("cannot read '" + path + "': " + buffer.getError().message());
  auto bad = [&](const llvm::Twine &why) {
    return createStringError("'" + path + "' is no file of `quern measure`: " + why);
  };
  Expected<json::Value> parsed =
      parseJson((*buffer)->getBuffer(), ("'" + path + "' is no file of `quern measure`").str());
  if (!parsed)
    return parsed.takeError();
  const json::Object *object = parsed->getAsObject();
  if (!object || object->getString("quern") != "kernel times")
    return bad("expected \"quern\": \"kernel times\"");
  if (integerOf(*object, "version") != 1)
    return bad("expected version 1");
  KernelTimes out;
  out.cpu = object->getString("cpu").value_or("").str();
  out.target = object->getString("target").value_or("").str();
  int64_t threads = integerOf(*object, "threads").value_or(0);
  out.other = object->getNumber("other").value_or(0);
  const json::Array *kernels = object->getArray("kernels");
  if (threads < 1 || threads > 4096 || !(out.other >= 0 && out.other < 1e3) || !kernels)
    return bad("expected threads, other and kernels");
  out.threads = unsigned(threads);
  for (const json::Value &value : *kernels) {
    const json::Object *k = value.getAsObject();
    if (!k)
      return bad("expected objects as kernels");
    Kernel kernel{k->getString("format").value_or("").str(), integerOf(*k, "rows").value_or(0),
                  integerOf(*k, "columns").value_or(0), k->getNumber("seconds").value_or(0)};
    if (kernel.format.empty() || kernel.rows < 1 || kernel.columns < 1 ||
        kernel.rows > (int64_t(1) << 40) || kernel.columns > (int64_t(1) << 40) ||
        !(kernel.seconds > 0 && kernel.seconds < 1e3))
      return bad("expected format, rows, columns and seconds of kernel " +
                 llvm::Twine(out.kernels.size()));
    out.kernels.push_back(std::move(kernel));
  }
  return out;
}

Error KernelTimes::write(StringRef path, bool force) const {
  json::Array list;
  for (const Kernel &k : kernels)
    list.push_back(json::Object{
        {"format", k.format}, {"rows", k.rows}, {"columns", k.columns}, {"seconds", k.seconds}});
  json::Object object{{"quern", "kernel times"},   {"version", 1},   {"cpu", cpu},
                      {"target", target},          {"other", other}, {"threads", int64_t(threads)},
                      {"kernels", std::move(list)}};
  Expected<OutputFile> file = OutputFile::create(path, force);
  if (!file)
    return file.takeError();
  file->stream() << llvm::formatv("{0:2}\n", json::Value(std::move(object)));
  return file->keep();
}

Expected<double> KernelTimes::seconds(StringRef format, int64_t rows, int64_t columns) const {
  double sum = 0, weights = 0;
  for (const Kernel &k : kernels) {
    if (k.format != format)
      continue;
    if (k.rows == rows && k.columns == columns)
      return k.seconds;
    sum += k.seconds;
    weights += double(k.rows) * double(k.columns);
  }
  if (weights == 0)
    return createStringError("the measured times know nothing of " + format +
                             "; `quern measure --formats` measures it");
  return sum / weights * double(rows) * double(columns);
}

/// GB/s at which kernels read weights with one token, of two threads on AVX2 (docs/Performance.md),
/// by the bits of a code: formats of few bits are bound by decoding, not by memory.
static double bytesPerSecond(double bits) {
  static constexpr std::pair<double, double> rates[] = {{2, 17e9}, {3, 18e9}, {4, 20e9}, {5, 22e9},
                                                        {6, 21e9}, {8, 22e9}, {16, 24e9}};
  for (const auto &[most, rate] : rates)
    if (bits <= most)
      return rate;
  return 24e9;
}

namespace {
struct AnalyticModel : CostModel {
  Expected<uint64_t> work(const format::Spec &spec, int64_t rows, int64_t columns) const override {
    Expected<uint64_t> bytes = format::matrixBytes(spec, rows, columns);
    if (!bytes)
      return bytes.takeError();
    return uint64_t(std::llround(
        double(*bytes) * 1e12 /
        bytesPerSecond(double(spec.code.bitsPerIndex()) / spec.code.valuesPerIndex())));
  }
  StringRef unit() const override { return "picoseconds"; }
};

struct MeasuredModel : CostModel {
  KernelTimes times;
  Expected<uint64_t> work(const format::Spec &spec, int64_t rows, int64_t columns) const override {
    Expected<double> seconds = times.seconds(format::formatName(spec), rows, columns);
    if (!seconds)
      return seconds.takeError();
    return uint64_t(std::llround(*seconds * 1e12));
  }
  uint64_t other() const override { return uint64_t(std::llround(times.other * 1e12)); }
  StringRef unit() const override { return "picoseconds"; }
};
} // namespace

Expected<std::unique_ptr<CostModel>> quern::quantize::createTimeModel(StringRef path) {
  if (path.empty())
    return std::make_unique<AnalyticModel>();
  auto model = std::make_unique<MeasuredModel>();
  if (Error e = KernelTimes::read(path).moveInto(model->times))
    return std::move(e);
  return model;
}
