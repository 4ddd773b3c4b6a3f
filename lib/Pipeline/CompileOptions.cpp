//===- CompileOptions.cpp - What was asked for ---------------------------===//
//
// Options are checked before anything is read: names, targets, the output's place.
//
//===----------------------------------------------------------------------===//
#include "Compilation.h"
#include "mlir/IR/BuiltinOps.h"
#include "quern/Format/Encode.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace mlir;
using namespace quern;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

namespace {
template <typename Enum> Error parseEnum(StringRef what, StringRef text, Enum &out) {
  std::optional<Enum> value;
  if constexpr (std::is_same_v<Enum, CacheElement>)
    value = symbolizeCacheElement(text);
  else
    value = symbolizeActivationFormat(text);
  if (!value)
    return createStringError(
        "unknown " + what + " '" + text + "'; known: " +
        (std::is_same_v<Enum, CacheElement> ? "f32, f16, q8_0, q4" : "fast, f32, bf16, q8, int8, q4, int4"));
  out = *value;
  return Error::success();
}
} // namespace

static StringRef extension(EmitKind kind) {
  switch (kind) {
  case EmitKind::Mlir:
  case EmitKind::Kernels:
    return ".mlir";
  case EmitKind::Bytecode:
    return ".mlirbc";
  case EmitKind::Llvm:
    return ".ll";
  case EmitKind::Assembly:
    return ".s";
  case EmitKind::Object:
    return ".o";
  case EmitKind::Library:
    return ".a";
  case EmitKind::Shared:
    return ".so";
  case EmitKind::Executable:
    return "";
  }
  llvm_unreachable("all kinds covered");
}

std::string quern::fileName(StringRef model) {
  llvm::SmallString<128> path(model);
  llvm::sys::fs::make_absolute(path);
  llvm::sys::path::remove_dots(path, true);
  StringRef name = llvm::sys::path::filename(path);
  if (!name.consume_back(".gguf"))
    name.consume_back(".safetensors");
  return name.str();
}

Error Compilation::checkOptions() {
  output = options.output;
  if (output.empty()) {
    std::string name = fileName(options.model);
    output = name + (options.emit == EmitKind::Executable && llvm::sys::fs::is_directory(name)
                         ? ".exe"
                         : extension(options.emit).str());
  }
  if (!options.kvCache.empty())
    if (Error e = parseEnum("KV cache type", options.kvCache, build.cache))
      return e;
  if (Error e = parseEnum("activation format", options.activations, build.activations))
    return e;
  if (options.context < 0)
    return createStringError("the context must be positive, found " + Twine(options.context));
  if (!options.format.empty()) {
    Expected<format::Spec> spec = format::parse(options.format);
    if (!spec)
      return createStringError("--format: " + llvm::toString(spec.takeError()));
    if (Error e = format::checkEncodable(*spec))
      return createStringError("--format: " + llvm::toString(std::move(e)));
    format = std::move(*spec);
  }
  bool oneTarget = options.emit == EmitKind::Llvm || options.emit == EmitKind::Assembly ||
                   options.emit == EmitKind::Kernels;
  std::vector<std::string> names = options.targets;
  if (names.empty() && oneTarget)
    names.push_back("x86-64-v3");
  if (names.empty())
    for (StringRef name : target::portableTargets())
      names.push_back(name.str());
  if (oneTarget && names.size() != 1)
    return createStringError("this output holds code of one target; " + Twine(names.size()) +
                             " were named");
  for (const std::string &name : names) {
    Expected<target::TargetInfo> info = target::lookup(name);
    if (!info)
      return info.takeError();
    bool linked = options.emit >= EmitKind::Library;
    if (info->isAArch64() && linked)
      return createStringError("target 'aarch64': only --emit=obj, asm and llvm; the runtime for "
                               "programs is not built for it");
    targets.push_back(std::move(*info));
  }
  // Best first, without repetitions: knownTargets is in rising order.
  auto rank = [](const target::TargetInfo &t) {
    auto known = target::knownTargets();
    return llvm::find_if(known, [&](auto &k) { return k.name == t.name; }) - known.begin();
  };
  llvm::sort(targets, [&](auto &a, auto &b) { return rank(a) > rank(b); });
  targets.erase(std::unique(targets.begin(), targets.end(),
                            [](auto &a, auto &b) { return a.name == b.name; }),
                targets.end());
  for (const target::TargetInfo &t : targets)
    if (t.isAArch64() != targets[0].isAArch64())
      return createStringError("targets 'aarch64' and x86-64 cannot share one output");
  return options.dryRun ? Error::success() : checkWritable(output, options.force);
}
