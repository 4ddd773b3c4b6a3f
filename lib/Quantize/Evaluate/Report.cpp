//===- Report.cpp - What was chosen and why --------------------------------===//
//
// As JSON and as a table.
//
//===----------------------------------------------------------------------===//
#include "Quantization.h"
#include "quern/Dialect/Quern/IR/QuernOps.h"
#include "quern/Quantize/Transform.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Format.h"

using namespace quern;
using namespace quern::quantize;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
namespace json = llvm::json;

Expected<uint64_t> quern::quantize::parseSize(StringRef text) {
  static constexpr std::pair<llvm::StringLiteral, double> units[] = {
      {"kb", 1e3}, {"mb", 1e6}, {"gb", 1e9}, {"kib", 1024},         {"b", 1}, {"mib", 1024 * 1024},
      {"k", 1e3},  {"m", 1e6},  {"g", 1e9},  {"gib", 1073741824.0}, {"", 1}};
  StringRef digits = text.take_while([](char c) { return llvm::isDigit(c) || c == '.'; });
  std::string unit = text.drop_front(digits.size()).trim().lower();
  double number;
  for (const auto &[name, factor] : units)
    if (unit == name && !digits.getAsDouble(number) && number * factor >= 1 &&
        number * factor < 1e18)
      return uint64_t(number * factor);
  return createStringError("'" + text + "' is no size; write 80MB (1e6), 80MiB (2^20) or bytes");
}

/// Of a token's keys and values, as the KV cache stores them.
int64_t Quantization::cacheBytesOfToken() const {
  if (!source.cacheHeads)
    return 0;
  auto element = symbolizeCacheElement(options.kvCache);
  mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
  context.loadDialect<QuernDialect>();
  return KvCacheType::get(&context, 1, source.cacheHeads / 2, source.headDim,
                          element.value_or(CacheElement::F16), 1)
      .getSlotBytes();
}

json::Object Quantization::report() {
  json::Array list;
  uint64_t elements = 0;
  for (auto [t, tensor] : llvm::enumerate(candidates->tensors)) {
    const Candidate &c = tensor.candidates[assignment.choice[t]];
    uint64_t own = uint64_t(tensor.rows * tensor.columns);
    elements += own;
    json::Object row{{"name", tensor.name},
                     {"rows", tensor.rows},
                     {"columns", tensor.columns},
                     {"format", c.name},
                     {"bytes", int64_t(c.bytes)},
                     {"bits", double(c.bytes) * 8 / double(own)},
                     {"error", c.error},
                     {"nearest_error", c.nearestError},
                     {"expected_loss", lossOf(t, assignment.choice[t])}};
    if (assignment.cost > 0)
      row["share"] = *row.getNumber("expected_loss") / assignment.cost;
    json::Object tried;
    for (auto [o, other] : llvm::enumerate(tensor.candidates))
      tried[other.name] = json::Object{
          {"bytes", int64_t(other.bytes)}, {"error", other.error}, {"expected_loss", lossOf(t, o)}};
    row["candidates"] = std::move(tried);
    list.push_back(std::move(row));
  }
  json::Object out{{"model", options.model},
                   {"output", options.output},
                   {"text", statistics.text},
                   {"tokens", int64_t(statistics.tokens)},
                   {"solver", methodName(options.method)},
                   {"engine", options.engine},
                   {"provider", options.provider},
                   {"damping", options.damping},
                   {"bits", double(assignment.bytes) * 8 / double(std::max<uint64_t>(elements, 1))},
                   {"bytes", int64_t(written ? written : overhead + bytesOf(assignment.choice))},
                   {"expected_loss", assignment.cost},
                   {"dry_run", options.dryRun},
                   {"why", reasons()},
                   {"tensors", std::move(list)}};
  if (options.size)
    out["budget"] = int64_t(options.size);
  json::Object least;
  for (auto [key, kind] :
       {std::pair("gguf", OutputKind::Gguf), std::pair("ir", OutputKind::Module),
        std::pair("executable", OutputKind::Program)})
    if (uint64_t bytes = smallestBytes(kind))
      least[key] = int64_t(bytes);
  if (!isFixed() && !least.empty())
    out["smallest"] = std::move(least);
  if (cost) {
    out["cost"] = options.cost.empty() ? (cost->isTime() ? "time" : "bitops") : options.cost;
    out["work"] = int64_t(work(assignment));
    out["work_unit"] = cost->unit();
  }
  if (double seconds = secondsOf(assignment.choice); seconds > 0)
    out["tokens_per_second"] = 1 / seconds;
  out["memory"] = json::Object{{"weights", int64_t(assignment.bytes)},
                               {"cache_per_token", cacheBytesOfToken()}};
  if (corrected)
    out["corrected_biases"] = corrected;
  if (outOfTime)
    out["out_of_time"] = true;
  if (kl >= 0)
    out["kl"] = kl;
  if (heldBackKl >= 0)
    out["held_back_kl"] = heldBackKl;
  if (uniformAssignment && uniformAssignment->cost > 0)
    out["ratio_to_uniform"] = assignment.cost / uniformAssignment->cost;
  if (uniformAssignment && uniformAssignment->cost > 0 && !isFixed()) {
    // Whichever was asked for, also those that lose; none for an engine that refuses.
    json::Object ratios;
    for (const EngineInfo &other : engines()) {
      if (Expected<Assignment> found = allocateWith(other.name, other.run))
        ratios[other.name] = found->cost / uniformAssignment->cost;
      else
        llvm::consumeError(found.takeError());
    }
    out["engines"] = std::move(ratios);
  }
  if (written) {
    out["written"] = int64_t(written);
    out["tries"] = int64_t(tries);
  }
  return out;
}

void quern::quantize::printTransform(const json::Object &entry, llvm::raw_ostream &os) {
  os << entry.getString("name").value_or("");
  if (auto options = entry.getString("options"))
    os << "{" << *options << "}";
  StringRef separator = ": ";
  for (const auto &[key, value] : entry)
    if (auto count = value.getAsInteger()) {
      os << separator << key << " " << *count;
      separator = ", ";
    }
}

void quern::quantize::printReport(const json::Object &report, llvm::raw_ostream &os) {
  auto text = [&](StringRef key) { return report.getString(key).value_or("").str(); };
  const json::Object &why = *report.getObject("why");
  auto reason = [&](StringRef key) { return why.getString(key).value_or("").str(); };
  os << "text         " << text("text") << ", " << report.getInteger("tokens").value_or(0)
     << " tokens; " << reason("text") << "\n";
  if (std::string measured = reason("measured"); !measured.empty())
    os << "measured     " << measured << "\n";
  os << "formats      " << reason("formats") << "\n";
  if (const json::Array *transforms = report.getArray("transforms"))
    for (const json::Value &transform : *transforms) {
      os << "transform    ";
      printTransform(*transform.getAsObject(), os);
      os << "; as asked for (--transform)\n";
    }
  else
    os << "transform    none; none was asked for (--transform)\n";
  os << "solver       " << text("solver") << "; " << reason("solver") << "\n"
     << "allocation   " << reason("allocation") << "\n\n"
     << llvm::left_justify("tensor", 28) << "     rows columns  format    bits      bytes   "
     << "error/nearest  expected loss\n";
  for (const json::Value &value : *report.getArray("tensors")) {
    const json::Object &t = *value.getAsObject();
    double nearest = *t.getNumber("nearest_error");
    os << llvm::left_justify(*t.getString("name"), 28)
       << llvm::format("%9lld %7lld  %-7s %6.3f %10lld %15.3f %14.3g\n", *t.getInteger("rows"),
                       *t.getInteger("columns"), t.getString("format")->str().c_str(),
                       *t.getNumber("bits"), *t.getInteger("bytes"),
                       nearest > 0 ? *t.getNumber("error") / nearest : 0,
                       *t.getNumber("expected_loss"));
  }
  os << llvm::format("\nsize         %lld bytes, %.3f bits a weight\n", *report.getInteger("bytes"),
                     *report.getNumber("bits"));
  if (const json::Object *smallest = report.getObject("smallest")) {
    StringRef separator = "smallest     ";
    for (auto [key, kind] : {std::pair("gguf", "a GGUF file"), std::pair("ir", "IR"),
                             std::pair("executable", "an executable")})
      if (auto bytes = smallest->getInteger(key)) {
        os << separator << *bytes << (separator == ", " ? "" : " bytes") << " as " << kind;
        separator = ", ";
      }
    os << ", with these formats to choose from\n";
  }
  if (auto speed = report.getNumber("tokens_per_second"))
    os << llvm::format("time         %.1f tokens/s decoding, by %s\n", *speed,
                       llvm::StringRef(text("cost")).starts_with("time=") ? "measured kernels"
                                                                          : "the analytic table");
  if (auto work = report.getInteger("work"); work && text("work_unit") != "picoseconds")
    os << "work         " << *work << " " << text("work_unit") << " a token\n";
  if (const json::Object *memory = report.getObject("memory"))
    os << llvm::format("memory       %lld bytes of weights, %lld a token of KV cache\n",
                       *memory->getInteger("weights"), *memory->getInteger("cache_per_token"));
  if (report.getBoolean("out_of_time").value_or(false))
    os << "time limit   reached: the best known by then; another run may give another file\n";
  if (auto kl = report.getNumber("kl"))
    os << llvm::format("loss         KL %.5f on the text it was chosen with\n", *kl);
  if (auto held = report.getNumber("held_back_kl"))
    os << llvm::format("held back    KL %.5f on windows that nothing was chosen with\n", *held);
  if (auto ratio = report.getNumber("ratio_to_uniform"))
    os << llvm::format("uniform      the expected loss is %.3f of one format for all\n", *ratio);
  if (const json::Object *ratios = report.getObject("engines")) {
    os << "engines     ";
    for (const EngineInfo &engine : engines())
      if (auto ratio = ratios->getNumber(engine.name))
        os << " " << engine.name << llvm::format(" %.3f", *ratio);
    os << " (expected loss, to uniform)\n";
  }
  if (report.getBoolean("dry_run").value_or(false))
    os << "output       " << text("output") << " (not written: --dry-run)";
  else
    os << "output       " << text("output");
  if (auto written = report.getInteger("written"))
    os << ", " << *written << " bytes";
  os << "\n";
}
