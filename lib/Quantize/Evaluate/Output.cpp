//===- Output.cpp - The file, which is never too large --------------------===//
//
// Written aside; what was asked for takes its name once it fits.
//
//===----------------------------------------------------------------------===//
#include "Folder.h"
#include "Quantization.h"
#include "mlir/IR/BuiltinOps.h"
#include "quern/Export/Convert.h"
#include "quern/Pipeline/Compile.h"
#include "quern/Pipeline/ModuleFile.h"
#include "quern/Support/OutputFile.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"
#include <map>

using namespace quern;
using namespace quern::quantize;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

/// ggml's number of the mix that has the format of most weights; 1024, "guessed", for others.
uint32_t Quantization::fileType(llvm::ArrayRef<uint32_t> choice) const {
  static constexpr std::pair<llvm::StringLiteral, uint32_t> mixes[] = {
      {"F32", 0},   {"F16", 1},   {"Q4_0", 2},    {"Q4_1", 3},    {"Q8_0", 7},
      {"Q5_0", 8},  {"Q5_1", 9},  {"Q2_K", 10},   {"Q3_K", 12},   {"Q4_K", 15},
      {"Q5_K", 17}, {"Q6_K", 18}, {"IQ4_NL", 25}, {"IQ4_XS", 30}, {"BF16", 32}};
  llvm::StringMap<int64_t> weights;
  for (auto [tensor, index] : llvm::zip(candidates->tensors, choice))
    weights[tensor.candidates[index].name] += tensor.rows * tensor.columns;
  uint32_t best = 1024;
  int64_t most = 0;
  for (const auto &[name, number] : mixes)
    if (int64_t count = weights.lookup(name); count > most) {
      most = count;
      best = number;
    }
  return best;
}

/// Writes a model of candidates; `bytes` is what that took, all files together.
Error Quantization::writeFile(const import::ModelFile &chosen, OutputKind kind, uint32_t fileType,
                              StringRef path, uint64_t &bytes) {
  if (kind == OutputKind::Gguf) {
    exporter::ConvertOptions convert;
    convert.fileType = fileType;
    if (Error e = exporter::convert(chosen, path, convert))
      return e;
  } else {
    CompileOptions compile;
    compile.model = options.model;
    if (!source.isModule)
      compile.source = &chosen;
    compile.activations = options.activations;
    compile.kvCache = options.kvCache;
    compile.context = options.context;
    Folder changed;
    if (Error e = changed.create("quern-biases"))
      return e;
    if (source.isModule)
      compile.rewrite = [&](mlir::ModuleOp module) { return rewrite(module, chosen, changed.path); };
    compile.output = path.str();
    compile.threads = options.threads;
    compile.targets = options.targets;
    if (kind == OutputKind::Module) {
      compile.emit = path.ends_with(".mlir") ? EmitKind::Mlir : EmitKind::Bytecode;
      compile.weightsBeside = true;
    }
    if (Error e = quern::compile(compile).takeError())
      return e;
  }
  if (std::error_code ec = llvm::sys::fs::file_size(path, bytes))
    return createStringError("cannot read '" + path + "': " + ec.message());
  if (uint64_t data = 0; kind == OutputKind::Module) {
    std::string beside = moduleDataPath(path);
    if (std::error_code ec = llvm::sys::fs::file_size(beside, data))
      return createStringError("cannot read '" + beside + "': " + ec.message());
    bytes += data;
  }
  return Error::success();
}

namespace {
/// Folders beside the output, where files of its name are written and the best is kept.
class Aside {
public:
  explicit Aside(StringRef output) : output(output), name(llvm::sys::path::filename(output)) {}
  ~Aside() {
    if (!root.empty())
      llvm::sys::fs::remove_directories(root);
  }
  Error create() {
    llvm::SmallString<256> prefix(output);
    llvm::sys::fs::make_absolute(prefix);
    std::error_code ec = llvm::sys::fs::createUniqueDirectory(llvm::Twine(prefix) + ".tmp", root);
    if (!ec)
      ec = llvm::sys::fs::create_directory(root + "/try");
    if (!ec)
      ec = llvm::sys::fs::create_directory(root + "/best");
    if (ec)
      return createStringError("cannot write '" + output + "': " + ec.message());
    return Error::success();
  }
  /// Where to write; what was tried before goes.
  std::string path() {
    for (StringRef suffix : suffixes)
      llvm::sys::fs::remove(root + "/try/" + name + suffix);
    return (root + "/try/" + name).str();
  }
  /// What was tried is the best so far.
  Error keep() { return move("/try/", root + "/best/" + name); }
  /// The best takes its name.
  Error finish(bool force) {
    for (StringRef suffix : suffixes)
      if (llvm::sys::fs::exists(root + "/best/" + name + suffix))
        if (Error e = checkWritable((output + suffix).str(), force))
          return e;
    return move("/best/", output);
  }

private:
  /// IR is there once its weights are.
  Error move(StringRef from, const llvm::Twine &to) {
    for (StringRef suffix : suffixes) {
      std::string source = (root + from + name + suffix).str(), target = (to + suffix).str();
      if (!llvm::sys::fs::exists(source))
        continue;
      if (std::error_code ec = llvm::sys::fs::rename(source, target))
        return createStringError("cannot write '" + target + "': " + ec.message());
    }
    return Error::success();
  }
  static constexpr llvm::StringLiteral suffixes[] = {".weights", ""};
  StringRef output, name;
  llvm::SmallString<256> root;
};
} // namespace

/// Kernels differ in size and code ends on a page, so that a program of a size takes some tries:
/// each moves the budget by what the last had too much or left, between the largest budget that
/// gave a file that fits and the smallest that gave none. The largest file that fits is the result.
Error Quantization::write() {
  if (Error e = step("write", 0))
    return e;
  Aside aside(options.output);
  if (Error e = aside.create())
    return e;
  constexpr int mostTries = 6;
  uint64_t fitting = 0, tooLarge = options.size, less = 0;
  std::map<std::vector<uint32_t>, bool> tried; // whether it fits
  std::optional<Assignment> best, next = assignment;
  while (next) {
    uint64_t bytes = 0;
    if (Error e = writeFile(candidates->choose(next->choice), kind(), fileType(next->choice),
                            aside.path(), bytes))
      return e;
    bool fits = !options.size || bytes <= options.size;
    if (fits && (!best || bytes > written)) {
      if (Error e = aside.keep())
        return e;
      best = next;
      written = bytes;
    }
    tried[next->choice] = fits;
    tries = tried.size();
    next.reset();
    uint64_t off = fits ? options.size - bytes : bytes - options.size;
    bool near = fits && off <= options.size / (tried.size() < 2 ? 500 : 100);
    // A GGUF file has just the size that was planned.
    bool exact = fits && kind() == OutputKind::Gguf;
    if (!options.size || exact || near || (best && tried.size() >= mostTries))
      break;
    (fits ? fitting : tooLarge) = budget.bytes;
    // A little less than would fit if kernels stayed the same; then half way between, or where
    // nothing is known to fit, less by ever larger steps.
    if (!fits)
      less = std::max(2 * less, off + off / 8);
    uint64_t wanted =
        fits ? budget.bytes + off - off / 8 : budget.bytes - std::min(budget.bytes, less);
    while (!next && tooLarge - fitting > 1024) {
      bool between = wanted > fitting && wanted < tooLarge;
      budget.bytes = between ? wanted : fitting + (tooLarge - fitting) / 2;
      wanted = 0;
      Expected<Assignment> found = search();
      if (!found) { // less than the smallest formats take
        llvm::consumeError(found.takeError());
        fitting = budget.bytes;
      } else if (auto known = tried.find(found->choice); known != tried.end()) {
        (known->second ? fitting : tooLarge) = budget.bytes;
        if (!fitting)
          wanted = budget.bytes - std::min(budget.bytes, less *= 2);
      } else {
        next = std::move(*found);
      }
    }
    if (!next && !best) { // the smallest is known to fit
      next = evaluate(items(), smallestChoice(kind()));
      if (tried.count(next->choice))
        return createStringError("'" + options.output + "' would have " + llvm::Twine(bytes) +
                                 " bytes, more than the " + llvm::Twine(options.size) +
                                 " allowed");
    }
  }
  bool changed = best->choice != assignment.choice;
  assignment = std::move(*best);
  if (changed)
    if (Error e = measureChosen())
      return e;
  if (options.sequential) {
    Expected<bool> rounded = roundInOrder();
    if (!rounded)
      return rounded.takeError();
    if (*rounded) {
      if (Error e = writeFile(candidates->choose(assignment.choice), kind(),
                              fileType(assignment.choice), aside.path(), written))
        return e;
      if (Error e = aside.keep())
        return e;
    }
  }
  return aside.finish(options.force);
}
