//===- Recipe.cpp - The recipe of a report --------------------------------===//
//
// The options that make a file, and hashes of what was in the inputs, so that it says what made it.
// Recipe.h reads it.
//
//===----------------------------------------------------------------------===//
#include "Quantization.h"
#include "quern/Quantize/Calibrate.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/MemoryBuffer.h"

using namespace quern;
using namespace quern::quantize;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;
namespace json = llvm::json;

std::vector<std::string> quern::quantize::splitFormats(StringRef text) {
  llvm::SmallVector<StringRef> parts;
  // A spelling has commas of its own.
  Expected<format::Spec> one = format::parse(text.trim());
  if (one)
    return {text.trim().str()};
  llvm::consumeError(one.takeError());
  text.split(parts, text.contains(';') ? ';' : ',', -1, /*KeepEmpty=*/false);
  std::vector<std::string> out;
  for (StringRef part : parts)
    if (!part.trim().empty())
      out.push_back(part.trim().str());
  return out;
}

json::Object quern::quantize::recipeOf(const QuantizeOptions &options) {
  json::Object out{{"solver", methodName(options.method)},
                   {"engine", options.engine},
                   {"provider", options.provider},
                   {"damping", options.damping},
                   {"seed", int64_t(options.seed)},
                   {"measure-effort", int64_t(options.measureEffort)}};
  auto add = [&](StringRef name, const std::string &value) {
    if (!value.empty())
      out[name] = value;
  };
  add("model", options.model);
  for (StringRef kind : {"text", "chat"}) {
    json::Array files;
    for (const TextSource &source : options.texts) {
      if (source.chat != (kind == "chat"))
        continue;
      std::string text = source.path;
      if (source.share != 1)
        llvm::raw_string_ostream(text) << llvm::format("=%.17g", source.share);
      files.push_back(std::move(text));
    }
    if (files.size() == 1)
      out[kind] = std::move(files[0]);
    else if (!files.empty())
      out[kind] = std::move(files);
  }
  add("statistics", options.statistics);
  add("allocation", options.allocation);
  add("format", options.format);
  bool spelled = llvm::any_of(options.formats, [](StringRef f) { return f.contains(','); });
  add("formats", llvm::join(options.formats, spelled ? ";" : ","));
  add("transform", llvm::join(options.transforms, ","));
  add("target", llvm::join(options.targets, ","));
  if (options.sequential)
    out["sequential"] = true;
  if (options.calibrationTokens)
    out["calibration-tokens"] = int64_t(options.calibrationTokens);
  if (options.activations != "fast")
    add("activations", options.activations);
  add("kv-cache", options.kvCache);
  if (options.context)
    out["context"] = options.context;
  if (options.measureTokens)
    out["measure-tokens"] = int64_t(options.measureTokens);
  if (options.size)
    out["size"] = int64_t(options.size);
  if (options.bits > 0)
    out["bits"] = options.bits;
  if (options.maxKl > 0)
    out["max-kl"] = options.maxKl;
  add("cost", options.cost);
  if (options.tokensPerSecond > 0)
    out["tokens-per-second"] = options.tokensPerSecond;
  if (options.bitOperations)
    out["bit-operations"] = int64_t(options.bitOperations);
  if (options.timeLimit > 0)
    out["time-limit"] = options.timeLimit;
  if (options.allowRequantize)
    out["allow-requantize"] = true;
  json::Array overrides;
  for (const auto &[pattern, format] : options.overrides)
    overrides.push_back(pattern + "=" + format);
  if (!overrides.empty())
    out["override"] = std::move(overrides);
  return out;
}

static Expected<std::string> hashFile(StringRef path) {
  auto buffer = llvm::MemoryBuffer::getFile(path, /*IsText=*/false,
                                            /*RequiresNullTerminator=*/false);
  if (!buffer)
    return createStringError("cannot read '" + path + "': " + buffer.getError().message());
  return Key("file").add((*buffer)->getBuffer()).digits();
}

Expected<json::Object> quern::quantize::hashInputs(const QuantizeOptions &options) {
  Expected<ModelSource> source = ModelSource::open(options.model);
  if (!source)
    return source.takeError();
  Key weights("weights");
  if (Error e = source->addTo(weights))
    return std::move(e);
  json::Object out{{"model", weights.digits()}};
  Key texts("texts");
  for (const TextSource &source : options.texts) {
    Expected<std::string> hash = hashFile(source.path);
    if (!hash)
      return hash.takeError();
    texts.add(StringRef(*hash));
    out["text"] = options.texts.size() == 1 ? *hash : texts.digits();
  }
  if (options.texts.empty())
    out["text"] = Key("file").add(builtinText()).digits();
  if (!options.statistics.empty()) {
    Expected<std::string> hash = hashFile(options.statistics);
    if (!hash)
      return hash.takeError();
    out["statistics"] = *hash;
  }
  if (!options.allocation.empty()) {
    Expected<std::string> hash = hashFile(options.allocation);
    if (!hash)
      return hash.takeError();
    out["allocation"] = *hash;
  }
  if (StringRef times = options.cost; times.consume_front("time=")) {
    Expected<std::string> hash = hashFile(times);
    if (!hash)
      return hash.takeError();
    out["cost"] = *hash;
  }
  return out;
}
