//===- Output.cpp - The budget and the file --------------------------------===//
//
// What a file takes beyond its matrices, and writing one that is never too large.
//
//===----------------------------------------------------------------------===//
#include "Quantization.h"
#include "quern/Export/Convert.h"
#include "quern/Pipeline/Compile.h"
#include "quern/Pipeline/ModuleFile.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include <map>

using namespace quern;
using namespace quern::quantize;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

Error Quantization::findBudget() {
  if (Error e = findWorkBudget())
    return e;
  uint64_t elements = 0, smallest = 0, smallestBlocks = 0;
  std::vector<uint32_t> asGguf; // the smallest that a GGUF file can hold
  for (const Tensor &tensor : candidates->tensors) {
    elements += uint64_t(tensor.rows * tensor.columns);
    uint64_t least = UINT64_MAX, leastBlocks = UINT64_MAX;
    uint32_t index = 0;
    for (auto [c, candidate] : llvm::enumerate(tensor.candidates)) {
      least = std::min(least, padded(candidate.bytes));
      if (format::blockType(candidate.spec, tensor.columns) &&
          padded(candidate.bytes) < leastBlocks) {
        leastBlocks = padded(candidate.bytes);
        index = uint32_t(c);
      }
    }
    smallest += least;
    if (leastBlocks != UINT64_MAX) {
      smallestBlocks += leastBlocks;
      asGguf.push_back(index);
    }
  }
  if (asGguf.size() == candidates->tensors.size()) {
    exporter::ConvertOptions convert;
    convert.fileType = 0; // whatever it will be
    Expected<uint64_t> size = exporter::ggufSize(candidates->choose(asGguf), convert);
    if (!size)
      return size.takeError();
    smallestFile = padded(*size); // the last tensor is not padded
    if (isGguf())
      overhead = smallestFile - smallestBlocks;
  }
  if (options.size) {
    if (!isGguf())
      return Error::success(); // probeOutput() knows more
    if (options.size < smallestFile)
      return createStringError("--size " + llvm::Twine(options.size) +
                               " is too small: the smallest possible file has " +
                               llvm::Twine(smallestFile) + " bytes");
    budget.bytes = options.size - overhead;
  } else if (options.bits > 0) {
    budget.bytes = uint64_t(options.bits * double(elements) / 8);
    if (budget.bytes < smallest)
      return createStringError(
          llvm::formatv("--bits {0} is too small: the smallest formats take {1:f3}", options.bits,
                        double(smallest) * 8 / double(elements))
              .str());
  } else if (options.maxKl > 0) {
    budget.bytes = std::max(smallest, elements * 9 / 16); // where sensitivities are measured
  }
  return Error::success();
}

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

/// Writes the model with these candidates; `bytes` is what that took.
Error Quantization::writeFile(llvm::ArrayRef<uint32_t> choice, StringRef path, bool force,
                              uint64_t &bytes) {
  import::ModelFile chosen = candidates->choose(choice);
  if (isGguf()) {
    exporter::ConvertOptions convert;
    convert.force = force;
    convert.fileType = fileType(choice);
    if (Error e = exporter::convert(chosen, path, convert))
      return e;
  } else {
    CompileOptions compile;
    compile.model = options.model;
    compile.source = &chosen;
    compile.output = path.str();
    compile.force = force;
    compile.threads = options.threads;
    compile.targets = options.targets;
    if (isModule()) {
      compile.emit =
          StringRef(options.output).ends_with(".mlir") ? EmitKind::Mlir : EmitKind::Bytecode;
      compile.weightsBeside = true;
    }
    if (Error e = quern::compile(compile).takeError())
      return e;
  }
  if (std::error_code ec = llvm::sys::fs::file_size(path, bytes))
    return createStringError("cannot read '" + path + "': " + ec.message());
  if (uint64_t data = 0; isModule()) {
    std::string beside = moduleDataPath(path);
    if (std::error_code ec = llvm::sys::fs::file_size(beside, data))
      return createStringError("cannot read '" + beside + "': " + ec.message());
    bytes += data;
  }
  return Error::success();
}

static void removeOutput(StringRef path) {
  llvm::sys::fs::remove(path);
  llvm::sys::fs::remove(moduleDataPath(path));
}

/// Bytes of a file with this choice, written and removed again.
Expected<uint64_t> Quantization::probe(llvm::ArrayRef<uint32_t> choice) {
  llvm::SmallString<128> path;
  if (std::error_code ec = llvm::sys::fs::createTemporaryFile("quern", "probe", path))
    return createStringError("cannot create a temporary file: " + ec.message());
  uint64_t bytes = 0;
  Error e = writeFile(choice, path, true, bytes);
  removeOutput(path);
  if (e)
    return std::move(e);
  return bytes;
}

uint64_t Quantization::bytesOf(llvm::ArrayRef<uint32_t> choice) const {
  uint64_t bytes = kernelBytes ? kernelBytes * countKinds(items(), choice) : 0;
  for (auto [tensor, index] : llvm::zip_equal(candidates->tensors, choice))
    bytes += storedBytes(tensor, tensor.candidates[index]);
  return bytes;
}

/// What an executable or IR takes beyond its matrices is known once one has been written; what
/// kernels take, once one with as many as possible has been.
Error Quantization::probeOutput() {
  if (Error e = step("link", 0))
    return e;
  std::vector<uint32_t> smallest, diverse;
  std::map<std::pair<int64_t, int64_t>, size_t> seen;
  for (const Tensor &tensor : candidates->tensors) {
    auto less = [&](const Candidate &a, const Candidate &b) {
      return storedBytes(tensor, a) < storedBytes(tensor, b);
    };
    smallest.push_back(
        uint32_t(llvm::min_element(tensor.candidates, less) - tensor.candidates.begin()));
    diverse.push_back(uint32_t(seen[{tensor.rows, tensor.columns}]++ % tensor.candidates.size()));
  }
  Expected<uint64_t> bytes = probe(smallest);
  if (!bytes)
    return bytes.takeError();
  (isModule() ? smallestModule : smallestProgram) = *bytes;
  if (*bytes > options.size) {
    std::string other =
        smallestFile ? ", the smallest possible GGUF file " + std::to_string(smallestFile) : "";
    return createStringError("--size " + llvm::Twine(options.size) +
                             " is too small: the smallest possible " +
                             (isModule() ? "IR with its weights" : "executable") + " has " +
                             llvm::Twine(*bytes) + " bytes" + other);
  }
  // Beside a hundred megabytes of weights code is nothing.
  size_t few = countKinds(items(), smallest), many = countKinds(items(), diverse);
  uint64_t other = bytesOf(smallest), others = bytesOf(diverse);
  if (!isModule() && many > few && options.size < 100'000'000) {
    Expected<uint64_t> more = probe(diverse);
    if (!more)
      return more.takeError();
    int64_t code = int64_t(*more - others) - int64_t(*bytes - other);
    kernelBytes = uint64_t(std::max<int64_t>(code, 0)) / (many - few);
  }
  overhead = *bytes - std::min(*bytes, bytesOf(smallest));
  budget.bytes = options.size - overhead;
  return Error::success();
}

Error Quantization::write() {
  if (Error e = step("write", 0))
    return e;
  bool force = options.force;
  // Kernels differ in size and code ends on a page, so an executable may need another try, with
  // less if it is too large, or once with what a first one leaves.
  for (int attempt = 0;; ++attempt) {
    if (Error e = writeFile(assignment.choice, options.output, force, written))
      return e;
    force = true;
    uint64_t slack = options.size - std::min(options.size, written);
    bool fits = !options.size || written <= options.size;
    std::optional<Assignment> next;
    if (fits && (attempt || isGguf() || slack <= options.size / 500))
      return attempt ? measureChosen() : Error::success();
    // Another mix has other kernels: each try leaves a little more.
    uint64_t margin = uint64_t(attempt + 1) * 1024;
    int64_t change = fits ? int64_t(slack) - int64_t(margin)
                          : int64_t(options.size) - int64_t(written) - int64_t(attempt) * 1024;
    if (attempt < 8 && int64_t(budget.bytes) + change > 0) {
      budget.bytes = uint64_t(int64_t(budget.bytes) + change);
      if (Expected<Assignment> found = search())
        next = std::move(*found);
      else
        llvm::consumeError(found.takeError());
    }
    if (fits && (!next || next->choice == assignment.choice))
      return Error::success(); // attempt 0: measured
    if (!next) {
      removeOutput(options.output);
      return createStringError("'" + options.output + "' would have " + llvm::Twine(written) +
                               " bytes, more than the " + llvm::Twine(options.size) + " allowed");
    }
    assignment = std::move(*next);
  }
}
