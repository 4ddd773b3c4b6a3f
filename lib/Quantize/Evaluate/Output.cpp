//===- Output.cpp - The budget and the file --------------------------------===//
//
// What a file takes beyond its matrices, and writing one that is never too large.
//
//===----------------------------------------------------------------------===//
#include "Quantization.h"
#include "quern/Export/Convert.h"
#include "quern/Pipeline/Compile.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"

using namespace quern;
using namespace quern::quantize;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

Error Quantization::findBudget() {
  std::vector<uint32_t> first(candidates->tensors.size(), 0);
  import::ModelFile some = candidates->choose(first);
  exporter::ConvertOptions convert;
  convert.fileType = 0; // whatever it will be
  Expected<uint64_t> size = exporter::ggufSize(some, convert);
  if (!size)
    return size.takeError();
  if (Error e = findWorkBudget())
    return e;
  uint64_t tensors = 0, elements = 0, smallest = 0;
  for (const Tensor &tensor : candidates->tensors) {
    tensors += padded(tensor.candidates[0].bytes);
    elements += uint64_t(tensor.rows * tensor.columns);
    uint64_t least = UINT64_MAX;
    for (const Candidate &candidate : tensor.candidates)
      least = std::min(least, padded(candidate.bytes));
    smallest += least;
  }
  // The last tensor is not padded.
  overhead = padded(*size) - tensors;
  smallestFile = overhead + smallest;
  if (options.size) {
    if (!isGguf())
      return Error::success(); // probeExecutable() knows more
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
    weights[tensor.candidates[index].type->name] += tensor.rows * tensor.columns;
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
  exporter::ConvertOptions convert;
  convert.force = force;
  convert.fileType = fileType(choice);
  if (isGguf()) {
    if (Error e = exporter::convert(chosen, path, convert))
      return e;
  } else {
    llvm::SmallString<128> gguf;
    if (std::error_code ec = llvm::sys::fs::createTemporaryFile("quern", "gguf", gguf))
      return createStringError("cannot create a temporary file: " + ec.message());
    convert.force = true;
    Error e = exporter::convert(chosen, gguf, convert);
    if (!e) {
      CompileOptions compile;
      compile.model = gguf.str().str();
      compile.output = path.str();
      compile.force = force;
      compile.threads = options.threads;
      e = quern::compile(compile).takeError();
    }
    llvm::sys::fs::remove(gguf);
    if (e)
      return e;
  }
  if (std::error_code ec = llvm::sys::fs::file_size(path, bytes))
    return createStringError("cannot read '" + path + "': " + ec.message());
  return Error::success();
}

/// What an executable takes beyond its matrices is known once one has been linked.
Error Quantization::probeExecutable() {
  if (Error e = step("link", 0))
    return e;
  std::vector<uint32_t> smallest;
  uint64_t tensors = 0, bytes = 0;
  for (const Tensor &tensor : candidates->tensors) {
    auto less = [&](const Candidate &a, const Candidate &b) {
      return storedBytes(tensor, a) < storedBytes(tensor, b);
    };
    auto least = llvm::min_element(tensor.candidates, less);
    smallest.push_back(uint32_t(least - tensor.candidates.begin()));
    tensors += storedBytes(tensor, *least);
  }
  llvm::SmallString<128> path;
  if (std::error_code ec = llvm::sys::fs::createTemporaryFile("quern", "exe", path))
    return createStringError("cannot create a temporary file: " + ec.message());
  Error e = writeFile(smallest, path, true, bytes);
  llvm::sys::fs::remove(path);
  if (e)
    return e;
  smallestProgram = bytes;
  if (bytes > options.size)
    return createStringError("--size " + llvm::Twine(options.size) +
                             " is too small: the smallest possible executable has " +
                             llvm::Twine(bytes) + " bytes, the smallest possible GGUF file " +
                             llvm::Twine(smallestFile));
  overhead = bytes - std::min(bytes, tensors);
  budget.bytes = options.size - overhead;
  return Error::success();
}

Error Quantization::write() {
  if (Error e = step("write", 0))
    return e;
  bool force = options.force;
  // Panels take a little more or less than file blocks do, so an executable may need another try.
  for (int attempt = 0;; ++attempt) {
    if (Error e = writeFile(assignment.choice, options.output, force, written))
      return e;
    if (!options.size || written <= options.size)
      return Error::success();
    uint64_t excess = written - options.size;
    std::optional<Assignment> next;
    // Another mix has other kernels, and code ends on a page: each try leaves a little more.
    if (uint64_t margin = excess + uint64_t(attempt) * 1024; attempt < 8 && margin < budget.bytes) {
      budget.bytes -= margin;
      if (Expected<Assignment> found = search())
        next = std::move(*found);
      else
        llvm::consumeError(found.takeError());
    }
    if (!next) {
      llvm::sys::fs::remove(options.output);
      return createStringError("'" + options.output + "' would have " + llvm::Twine(written) +
                               " bytes, more than the " + llvm::Twine(options.size) + " allowed");
    }
    assignment = std::move(*next);
    kl = heldBackKl = -1; // was another assignment's
    force = true;
  }
}
