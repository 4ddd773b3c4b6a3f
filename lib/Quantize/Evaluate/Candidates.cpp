//===- Candidates.cpp - Every tensor in every format ----------------------===//
//
// See Candidates.h; PlanCandidates.cpp says which formats there are.
//
//===----------------------------------------------------------------------===//
#include "Candidates.h"
#include "quern/Format/Known.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"

using namespace quern;
using namespace quern::quantize;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

Expected<std::vector<float>> quern::quantize::readValues(const import::ModelFile &model,
                                                         const import::TensorInfo &info) {
  Expected<import::TensorBytes> mapped = import::mapTensor(model, info);
  if (!mapped)
    return mapped.takeError();
  int64_t columns = info.shape.back(), rows = columns ? info.elements() / columns : 0;
  std::vector<float> values(size_t(rows * columns));
  if (Error e = import::decodeRows(info, mapped->bytes(), rows, columns, values))
    return createStringError("tensor '" + info.name + "': " + llvm::toString(std::move(e)));
  return values;
}

Error Candidates::makeHessian(const Tensor &tensor, const InputStatistics *input,
                              const QuantizeOptions &options) {
  if (hessian && input && input == hessianInput)
    return Error::success();
  hessianInput = input;
  if (!input) {
    hessian = Hessian::identity(tensor.columns);
    return Error::success();
  }
  hessian.reset(); // before the next takes its memory
  Expected<Hessian> made = Hessian::create(input->meanHessian(), tensor.columns, options.damping);
  if (!made)
    return createStringError("tensor '" + tensor.name + "': " + llvm::toString(made.takeError()));
  hessian = std::move(*made);
  if (hessian->damping != options.damping && options.note)
    options.note("the Hessian of '" + tensor.name + "' needed a damping of " +
                 std::to_string(hessian->damping));
  return Error::success();
}

/// A name of the tensor, or of one of its experts, for messages.
static std::string nameOf(const Tensor &tensor, size_t expert) {
  return tensor.experts == 1 ? tensor.name : tensor.name + "' expert '" + std::to_string(expert);
}

Error Candidates::solveTensor(Tensor &tensor, const QuantizeOptions &options) {
  std::vector<Subject::Part> parts = tensor.parts();
  Expected<std::vector<float>> values = readValues(*model, source(tensor));
  if (!values)
    return values.takeError();
  // All that a candidate depends on; the name leads readers of the folder.
  Key common("candidate 4");
  common.addAll(llvm::ArrayRef(*values)).add(double(tensor.columns)).add(options.damping);
  common.add(methodName(options.method)).add(double(SolveOptions().sweeps));
  if (!tensor.leading.empty())
    common.addAll(llvm::ArrayRef(tensor.leading));
  for (const Subject::Part &part : parts)
    if (part.input)
      common.addAll(llvm::ArrayRef<uint64_t>{part.input->rows, part.input->hash});
    else if (tensor.experts > 1)
      common.add("unseen");
  std::vector<Candidate *> missing;
  for (Candidate &candidate : tensor.candidates) {
    // Spellings are no names of files.
    bool named = llvm::all_of(candidate.name, [](char c) { return llvm::isAlnum(c) || c == '_'; });
    candidate.key = tensor.name + "." + (named ? candidate.name : "format") + "." +
                    Key(common).add(candidate.name).digits();
    if (auto found = store->find(candidate.key, candidate.bytes, 3)) {
      candidate.error = (*found)[0];
      candidate.nearestError = (*found)[1];
      tensor.damping = (*found)[2];
    } else {
      missing.push_back(&candidate);
    }
  }
  std::vector<std::vector<uint8_t>> bytes(missing.size());
  int64_t rows = tensor.rows / tensor.experts;
  for (size_t expert = 0; expert < parts.size() && !missing.empty(); ++expert) {
    if (Error e = makeHessian(tensor, parts[expert].input, options))
      return e;
    tensor.damping = std::max(expert ? tensor.damping : 0, hessian->damping);
    auto own = llvm::ArrayRef(*values).slice(size_t(int64_t(expert) * rows * tensor.columns),
                                             size_t(rows * tensor.columns));
    for (auto [candidate, all] : llvm::zip(missing, bytes)) {
      Expected<Solution> solution = quantize::solve(
          candidate->spec, own, rows, *hessian,
          {options.method, SolveOptions().sweeps, options.threads,
           candidate->spec.kind == format::Spec::Kind::Split ? llvm::ArrayRef(tensor.leading)
                                                             : llvm::ArrayRef<int32_t>()},
          nameOf(tensor, expert));
      if (!solution)
        return createStringError(model->path + ": " + llvm::toString(solution.takeError()));
      auto packed = format::packMatrix(candidate->spec, solution->components);
      if (!packed)
        return createStringError("tensor '" + tensor.name +
                                 "': " + llvm::toString(packed.takeError()));
      llvm::append_range(all, *packed);
      candidate->error += parts[expert].weight * solution->error;
      candidate->nearestError += parts[expert].weight * solution->nearestError;
    }
  }
  for (auto [candidate, all] : llvm::zip(missing, bytes))
    if (Error e = store->put(candidate->key, all,
                             {candidate->error, candidate->nearestError, tensor.damping}))
      return e;
  return Error::success();
}

/// The statistics of each expert, or of the one matrix; null where nothing was seen.
std::vector<const InputStatistics *>
Candidates::inputsOf(const Tensor &tensor, const Statistics &statistics,
                     const QuantizeOptions &options) {
  std::vector<const InputStatistics *> out;
  std::string unseen;
  for (int64_t e = 0; e < tensor.experts; ++e) {
    const InputStatistics *input =
        statistics.find(tensor.name, tensor.experts > 1 ? int32_t(e) : -1);
    if (input && input->columns != tensor.columns) {
      if (options.note)
        options.note("the importance matrix has " + std::to_string(input->columns) +
                     " values for '" + nameOf(tensor, size_t(e)) + "', which has " +
                     std::to_string(tensor.columns) + " columns: they are not used");
      input = nullptr;
    }
    out.push_back(input && input->rows ? input : nullptr);
    if (!out.back())
      unseen += (unseen.empty() ? "" : ", ") + std::to_string(e);
  }
  bool any = llvm::any_of(out, [](const InputStatistics *input) { return input; });
  if (any && !unseen.empty() && options.note)
    options.note("no statistics for experts " + unseen + " of '" + tensor.name +
                 "': their columns count the same");
  return out;
}

Error Candidates::solve(const Statistics &statistics, const QuantizeOptions &options,
                        const Store &folder, const Deadline &deadline) {
  store = &folder;
  // A step's share of the work goes with its values and their columns.
  double all = 0, done = 0;
  auto work = [](const Tensor &t) {
    return double(t.rows) * double(t.columns) * double(t.columns) * double(t.candidates.size());
  };
  for (const Tensor &tensor : tensors)
    all += work(tensor);
  for (Tensor &tensor : tensors) {
    if (options.progress && !options.progress("solve", done / all))
      return createStringError("cancelled");
    tensor.inputs = inputsOf(tensor, statistics, options);
    tensor.observed = llvm::any_of(tensor.inputs, [](const InputStatistics *input) { return input; });
    QuantizeOptions own = options;
    if (deadline.passed())
      own.method = Method::Nearest;
    if (Error e = solveTensor(tensor, own))
      return e;
    done += work(tensor);
  }
  hessian.reset();
  return Error::success();
}

Error Candidates::solveAgain(llvm::ArrayRef<std::pair<size_t, uint32_t>> chosen,
                             const Statistics &statistics, const QuantizeOptions &options) {
  hessian.reset();
  for (auto [place, index] : chosen) {
    Candidate &candidate = tensors[place].candidates[index];
    Tensor one = tensors[place];
    one.inputs = inputsOf(one, statistics, options);
    one.candidates = {candidate};
    one.candidates[0].error = one.candidates[0].nearestError = 0;
    if (Error e = solveTensor(one, options))
      return e;
    candidate = std::move(one.candidates[0]);
  }
  hessian.reset(); // of statistics that the caller owns
  return Error::success();
}

Expected<std::vector<float>> Candidates::values(const Tensor &tensor,
                                                const Candidate &candidate) const {
  std::string path = store->path(candidate.key);
  auto buffer = llvm::MemoryBuffer::getFileSlice(path, candidate.bytes, 0);
  if (!buffer)
    return createStringError("cannot read '" + path + "': " + buffer.getError().message());
  // The matrices of a stack follow one another.
  auto bytes = llvm::arrayRefFromStringRef((*buffer)->getBuffer());
  size_t count = size_t(tensor.experts), each = bytes.size() / count;
  std::vector<float> values(size_t(tensor.rows * tensor.columns));
  llvm::MutableArrayRef<float> out(values);
  for (size_t e = 0, size = values.size() / count; e < count; ++e)
    if (Error error = format::decodeMatrix(candidate.spec, bytes.slice(e * each, each),
                                           tensor.rows / tensor.experts, tensor.columns,
                                           out.slice(e * size, size)))
      return std::move(error);
  return values;
}

import::ModelFile Candidates::choose(llvm::ArrayRef<uint32_t> choice) const {
  import::ModelFile out = *model;
  for (auto [tensor, index] : llvm::zip(tensors, choice)) {
    const Candidate &candidate = tensor.candidates[index];
    import::TensorInfo &info =
        tensor.composed ? out.stacks[tensor.index] : out.tensors[tensor.index];
    info.spec = candidate.spec;
    info.fileType = format::blockType(candidate.spec, tensor.columns)
                        ? candidate.name
                        : format::print(candidate.spec);
    info.file = unsigned(out.files.size());
    info.offset = 0;
    info.size = candidate.bytes;
    // The tensors that a stack is made of stay its parts.
    uint64_t offset = 0, pieceBytes = candidate.bytes / std::max<size_t>(info.pieces.size(), 1);
    for (import::Segment &piece : info.pieces) {
      for (import::TensorInfo &part : out.tensors)
        if (part.file == piece.file && part.offset == piece.offset) {
          part.file = info.file;
          part.offset = offset;
        }
      piece = {info.file, offset, pieceBytes};
      offset += pieceBytes;
    }
    // Before there is a file, its size alone matters.
    std::string path = store ? store->path(candidate.key) : "";
    uint64_t size = candidate.bytes;
    if (store)
      (void)llvm::sys::fs::file_size(path, size);
    out.files.push_back({path, size});
  }
  return out;
}
