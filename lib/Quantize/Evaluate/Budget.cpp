//===- Budget.cpp - What a file takes, and what is left for its matrices ---===//
//
// The size of a GGUF file is known from its formats. IR and programs are written once with the
// smallest formats, and zeros for weights, before anything is computed.
//
//===----------------------------------------------------------------------===//
#include "Folder.h"
#include "Quantization.h"
#include "quern/Export/Convert.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/raw_ostream.h"
#include <map>
#include <numeric>

using namespace quern;
using namespace quern::quantize;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

static StringRef nameOf(OutputKind kind) {
  switch (kind) {
  case OutputKind::Gguf:
    return "GGUF file";
  case OutputKind::Module:
    return "IR with its weights";
  case OutputKind::Program:
    return "executable";
  }
  llvm_unreachable("all kinds covered");
}

/// The choice that takes fewest bytes; none if a tensor has no candidate that a GGUF file can hold.
std::vector<uint32_t> Quantization::smallestChoice(OutputKind kind) const {
  std::vector<uint32_t> out;
  for (const Tensor &tensor : candidates->tensors) {
    uint64_t least = UINT64_MAX;
    uint32_t index = 0;
    for (auto [c, candidate] : llvm::enumerate(tensor.candidates)) {
      if (kind == OutputKind::Gguf && !format::blockType(candidate.spec, tensor.columns))
        continue;
      if (uint64_t bytes = storedBytes(tensor, candidate, kind); bytes < least) {
        least = bytes;
        index = uint32_t(c);
      }
    }
    if (least == UINT64_MAX)
      return {};
    out.push_back(index);
  }
  return out;
}

uint64_t Quantization::bytesOf(llvm::ArrayRef<uint32_t> choice) const {
  uint64_t bytes = kernelBytes ? kernelBytes * countKinds(items(), choice) : 0;
  for (auto [tensor, index] : llvm::zip_equal(candidates->tensors, choice))
    bytes += storedBytes(tensor, tensor.candidates[index], kind());
  return bytes;
}

/// A matrix of zeros, as a hole. What ends a split, where its columns go, must be a permutation in
/// any case.
static std::error_code writeZeros(StringRef path, const Tensor &tensor,
                                  const Candidate &candidate) {
  int descriptor;
  if (std::error_code ec = llvm::sys::fs::openFileForWrite(path, descriptor))
    return ec;
  llvm::raw_fd_ostream out(descriptor, /*shouldClose=*/true);
  if (std::error_code ec = llvm::sys::fs::resize_file(descriptor, candidate.bytes))
    return ec;
  if (candidate.spec.kind == format::Spec::Kind::Split) {
    std::vector<int32_t> permutation(size_t(tensor.columns));
    std::iota(permutation.begin(), permutation.end(), 0);
    size_t bytes = permutation.size() * sizeof(int32_t);
    out.seek(candidate.bytes - bytes);
    out.write(reinterpret_cast<const char *>(permutation.data()), bytes);
  }
  out.close();
  std::error_code ec = out.error();
  out.clear_error();
  return ec;
}

/// Bytes of a file with this choice, written with zeros for weights and removed again.
Expected<uint64_t> Quantization::probe(OutputKind kind, llvm::ArrayRef<uint32_t> choice) {
  Folder folder;
  if (Error e = folder.create("quern-probe"))
    return std::move(e);
  import::ModelFile chosen = candidates->choose(choice);
  size_t first = chosen.files.size() - candidates->tensors.size();
  for (size_t i = first; i < chosen.files.size(); ++i) {
    const Tensor &tensor = candidates->tensors[i - first];
    const Candidate &candidate = tensor.candidates[choice[i - first]];
    import::SourceFile &file = chosen.files[i];
    file.path = folder.file("zeros-" + std::to_string(i));
    file.size = candidate.bytes;
    if (std::error_code ec = writeZeros(file.path, tensor, candidate))
      return createStringError("cannot write '" + file.path + "': " + ec.message());
  }
  // IR names the file beside it.
  std::string name = llvm::sys::path::filename(options.output).str();
  if (kind == OutputKind::Module && this->kind() != kind)
    name = "model.mlirbc";
  uint64_t bytes = 0;
  if (Error e = writeFile(chosen, kind, 0, folder.file(name), bytes))
    return std::move(e);
  return bytes;
}

/// Finds out smallestBytes() of a kind, which stays 0 where it is impossible.
Error Quantization::findSmallestFile(OutputKind kind) {
  std::vector<uint32_t> choice = smallestChoice(kind);
  if (choice.empty() || smallestBytes(kind) || (kind == OutputKind::Gguf && source.isModule))
    return Error::success();
  if (kind != OutputKind::Gguf)
    return probe(kind, choice).moveInto(smallestBytes(kind));
  exporter::ConvertOptions convert;
  convert.fileType = 0; // whatever it will be
  Expected<uint64_t> size = exporter::ggufSize(candidates->choose(choice), convert);
  if (!size)
    return size.takeError();
  smallestBytes(kind) = padded(*size); // the last tensor is not padded
  return Error::success();
}

/// What a program takes beyond its matrices depends on its kernels: on how many formats there are
/// for each shape, which another probe, with as many as possible, tells.
Error Quantization::findSizeBudget() {
  if (kind() != OutputKind::Gguf) {
    if (Error e = step("link", 0))
      return e;
    if (Error e = findSmallestFile(kind()))
      return e;
  }
  uint64_t least = smallestBytes(kind());
  if (options.size < least) {
    std::string message =
        llvm::formatv("--size {0} is too small: the smallest possible {1} has {2} bytes",
                      options.size, nameOf(kind()), least);
    for (OutputKind other : outputKinds) {
      if (other == kind())
        continue;
      if (Error e = findSmallestFile(other))
        llvm::consumeError(std::move(e)); // the message is about another kind
      else if (smallestBytes(other))
        message += llvm::formatv(", {0} {1}", nameOf(other), smallestBytes(other));
    }
    return createStringError(message);
  }
  std::vector<uint32_t> few = smallestChoice(kind()), many;
  std::map<std::pair<int64_t, int64_t>, size_t> seen;
  for (const Tensor &tensor : candidates->tensors)
    many.push_back(uint32_t(seen[{tensor.rows, tensor.columns}]++ % tensor.candidates.size()));
  size_t more = countKinds(items(), many) - std::min(countKinds(items(), many),
                                                     countKinds(items(), few));
  // Beside a hundred megabytes of weights code is nothing.
  if (kind() == OutputKind::Program && more > 0 && options.size < 100'000'000) {
    Expected<uint64_t> larger = probe(kind(), many);
    if (!larger)
      return larger.takeError();
    int64_t code = int64_t(*larger - bytesOf(many)) - int64_t(least - bytesOf(few));
    kernelBytes = uint64_t(std::max<int64_t>(code, 0)) / more;
  }
  overhead = least - std::min(least, bytesOf(few));
  budget.bytes = options.size - overhead;
  return Error::success();
}

Error Quantization::findBudget() {
  if (Error e = findWorkBudget())
    return e;
  if (Error e = findSmallestFile(OutputKind::Gguf))
    return e;
  // Who plans a file wants to know what the other kinds could do.
  if (options.dryRun && !options.output.empty() && !isFixed())
    for (OutputKind other : outputKinds)
      if (Error e = findSmallestFile(other))
        llvm::consumeError(std::move(e));
  if (options.size)
    return findSizeBudget();
  uint64_t elements = 0, smallest = 0;
  for (const Tensor &tensor : candidates->tensors) {
    elements += uint64_t(tensor.rows * tensor.columns);
    uint64_t least = UINT64_MAX;
    for (const Candidate &candidate : tensor.candidates)
      least = std::min(least, padded(candidate.bytes));
    smallest += least;
  }
  if (options.bits > 0) {
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
