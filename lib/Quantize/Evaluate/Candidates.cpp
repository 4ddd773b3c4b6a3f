//===- Candidates.cpp - Every tensor in every format ----------------------===//
//
// See Candidates.h.
//
//===----------------------------------------------------------------------===//
#include "Candidates.h"
#include "quern/Format/Known.h"
#include "quern/Format/Size.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/GlobPattern.h"
#include "llvm/Support/MemoryBuffer.h"
#include <map>
#include <set>

using namespace quern;
using namespace quern::quantize;
using format::FileType;
using llvm::createStringError;
using llvm::Error;
using llvm::Expected;
using llvm::StringRef;

/// From few bits to many. Types of vectors are not the solver's.
static constexpr llvm::StringLiteral ggufFormats[] = {"Q2_K", "Q3_K", "IQ4_XS", "Q4_K",
                                                      "Q5_K", "Q6_K", "Q8_0"};
/// For rows that blocks of 256 do not divide.
static constexpr llvm::StringLiteral smallBlocks[] = {"IQ4_NL", "Q4_1", "Q5_0", "Q5_1", "Q8_0"};
/// Where GGUF's types are no limit.
static constexpr llvm::StringLiteral freeFormats[] = {"lm2_g16", "lm3_g32", "lm3_g16",  "lm4_g32",
                                                      "lm5_g32", "lm6_g32", "int7_g32", "int8_g32"};
/// The same for rows that 256 does not divide: scales relative to the row's.
static constexpr llvm::StringLiteral freeSmallBlocks[] = {
    "table<lm3>, scale f16[1x*] * i4[1x32]", "table<lm4>, scale f16[1x*] * i6[1x32]",
    "table<lm5>, scale f16[1x*] * i6[1x32]", "table<lm6>, scale f16[1x*] * i8[1x32]",
    "i8, scale f16[1x*] * i8[1x32]"};

/// A format by name, one of GGUF's types if `gguf`.
static Expected<format::Spec> findFormat(StringRef name, bool gguf) {
  Expected<format::Spec> spec = format::parseBaseFormat(name);
  if (!gguf || (spec && format::ggufType(*spec)))
    return spec;
  bool known = bool(spec);
  llvm::consumeError(spec.takeError());
  std::string types;
  for (const FileType &type : format::ggufTypes())
    types += (types.empty() ? "" : ", ") + type.name.str();
  return createStringError(
      "GGUF has no type '" + name + "'" +
      (known ? ", which an executable (or a file that ends in .mlirbc) could have" : "") +
      "; it has " + types);
}

/// Columns that a row must be a multiple of to be stored without padding.
static int64_t blockOf(const format::Spec &spec) {
  if (const FileType *type = format::ggufType(spec))
    return type->blockElements;
  return std::max<int64_t>(format::storageTile(spec), 1);
}

static bool isQuantizable(const import::TensorInfo &info) {
  StringRef name = info.canonical;
  return (info.shape.size() == 2 || info.shape.size() == 3) && info.decodable &&
         name.ends_with(".weight") && !name.ends_with(".ffn_gate_inp.weight");
}

/// Why a tensor has other formats than the rest, and the bits they take instead.
static std::string restrictionOf(const Tensor &tensor, StringRef refused) {
  std::string left;
  for (const Candidate &candidate : tensor.candidates)
    left += (left.empty() ? "" : ", ") + candidate.name +
            llvm::formatv(" ({0:f2} bits)", double(candidate.bytes) * 8 /
                                                (double(tensor.rows) * double(tensor.columns)))
                .str();
  return "rows of " + std::to_string(tensor.columns - int64_t(tensor.leading.size())) +
         " elements, which blocks of " + refused.str() + " do not divide; left are " + left;
}

/// One line for all tensors with the same restriction: a model has hundreds.
static void noteRestrictions(const std::map<std::string, std::vector<std::string>> &restricted,
                             const QuantizeOptions &options) {
  for (const auto &[reason, names] : restricted) {
    std::string who = "tensor '" + names.front() + "' has ";
    if (names.size() > 1)
      who = std::to_string(names.size()) + " tensors ('" + names[0] + "', '" + names[1] +
            (names.size() > 2 ? "', ...) have " : "') have ");
    options.note(who + reason);
  }
}

/// A tensor and its place in ModelFile::tensors, or stacks.
using Source = std::pair<const import::TensorInfo *, size_t>;

/// Tensors that are parts of stacks are quantized as those.
static std::vector<Source> sourcesOf(const import::ModelFile &model) {
  std::set<std::pair<unsigned, uint64_t>> parts;
  for (const import::TensorInfo &stack : model.stacks)
    for (const import::Segment &piece : stack.pieces)
      parts.insert({piece.file, piece.offset});
  std::vector<Source> sources;
  for (auto [i, info] : llvm::enumerate(model.tensors))
    if (!parts.count({info.file, info.offset}))
      sources.emplace_back(&info, i);
  for (auto [i, info] : llvm::enumerate(model.stacks))
    sources.emplace_back(&info, i);
  return sources;
}

Expected<Candidates> Candidates::plan(const ModelSource &from, const QuantizeOptions &options,
                                      bool gguf) {
  const import::ModelFile &model = from.model;
  Candidates out(model);
  std::vector<Source> sources = sourcesOf(model);
  // Of a stack a token meets but some.
  int64_t chosenExperts = 1;
  auto isStack = [](const Source &source) { return source.first->shape.size() == 3; };
  if (llvm::any_of(sources, isStack))
    chosenExperts = from.expertsUsed;
  std::vector<std::pair<llvm::GlobPattern, format::Spec>> overrides;
  for (const auto &[pattern, name] : options.overrides) {
    auto glob = llvm::GlobPattern::create(pattern);
    if (!glob)
      return createStringError("--override '" + pattern + "': " + llvm::toString(glob.takeError()));
    Expected<format::Spec> spec = findFormat(name, gguf);
    if (!spec)
      return spec.takeError();
    overrides.emplace_back(std::move(*glob), std::move(*spec));
  }
  std::vector<format::Spec> wanted;
  std::vector<std::string> names = options.formats;
  if (!options.format.empty())
    names = {options.format};
  bool chosen = !names.empty();
  if (!chosen)
    names.assign(gguf ? std::begin(ggufFormats) : std::begin(freeFormats),
                 gguf ? std::end(ggufFormats) : std::end(freeFormats));
  for (StringRef name : names) {
    Expected<format::Spec> spec = findFormat(name, gguf);
    if (!spec)
      return spec.takeError();
    if (!llvm::is_contained(wanted, *spec))
      wanted.push_back(std::move(*spec));
  }
  llvm::StringMap<format::Spec> allocated;
  if (!options.allocation.empty()) {
    auto read = readAllocation(options.allocation);
    if (!read)
      return read.takeError();
    for (const auto &[name, format] : *read) {
      Expected<format::Spec> spec = findFormat(format, gguf);
      if (!spec)
        return createStringError("'" + options.allocation + "': tensor '" + name +
                                 "': " + llvm::toString(spec.takeError()));
      allocated[name] = std::move(*spec);
    }
  }
  std::map<std::string, std::vector<std::string>> restricted; // tensors by reason
  size_t lossy = 0;
  std::vector<bool> overrideUsed(overrides.size());
  bool tied = llvm::none_of(model.tensors, [](const import::TensorInfo &info) {
    return info.canonical == "output.weight";
  });
  for (auto [source, i] : sources) {
    const import::TensorInfo &info = *source;
    if (!isQuantizable(info) || (info.canonical == "output.weight" && tied))
      continue;
    if (!info.spec.isPlain() && !options.allowRequantize)
      return createStringError(model.path + ": tensor '" + info.name + "' is " + info.fileType +
                               " already; give --allow-requantize to quantize it again");
    lossy += !info.spec.isPlain();
    Tensor tensor;
    tensor.index = i;
    tensor.name = info.canonical;
    tensor.composed = !info.pieces.empty();
    tensor.columns = info.shape.back();
    tensor.rows = info.elements() / std::max<int64_t>(tensor.columns, 1);
    tensor.experts = info.shape.size() == 3 ? info.shape[0] : 1;
    tensor.usedRows = tensor.rows / tensor.experts * (tensor.experts > 1 ? chosenExperts : 1);
    tensor.isProduct = tied || info.canonical != "token_embd.weight";
    std::vector<format::Spec> specs = wanted;
    bool pinned = false;
    if (!options.allocation.empty()) {
      auto found = allocated.find(tensor.name);
      if (found == allocated.end())
        return createStringError("'" + options.allocation + "' names no format for tensor '" +
                                 tensor.name + "' of " + model.path);
      specs = {found->second};
      pinned = true;
      allocated.erase(found);
    }
    for (auto [o, pair] : llvm::enumerate(overrides))
      if (pair.first.match(tensor.name) || pair.first.match(info.name)) {
        specs = {pair.second};
        pinned = true;
        overrideUsed[o] = true;
      }
    // Of a column split the formats are those of the other columns.
    auto split = from.splits.find(tensor.name);
    bool isSplit = split != from.splits.end();
    if (isSplit)
      tensor.leading = split->second.leading;
    int64_t columns = tensor.columns - int64_t(tensor.leading.size());
    auto fits = [&](const format::Spec &spec) { return columns % blockOf(spec) == 0; };
    std::string refused;
    for (const format::Spec &spec : specs)
      if (!fits(spec))
        refused += (refused.empty() ? "" : ", ") + format::formatName(spec);
    llvm::erase_if(specs, [&](const format::Spec &spec) { return !fits(spec); });
    if (!pinned && !refused.empty() && !chosen)
      for (StringRef name : gguf ? llvm::ArrayRef<llvm::StringLiteral>(smallBlocks)
                                 : llvm::ArrayRef<llvm::StringLiteral>(freeSmallBlocks))
        if (format::Spec spec = llvm::cantFail(format::parseBaseFormat(name));
            fits(spec) && !llvm::is_contained(specs, spec))
          specs.push_back(std::move(spec));
    if (specs.empty())
      return createStringError(model.path + ": tensor '" + info.name + "' has rows of " +
                               llvm::Twine(columns) + " elements, which no block of " +
                               refused + " divides; choose another format for it (--override)");
    for (const format::Spec &spec : specs) {
      Candidate candidate;
      candidate.spec = isSplit && !spec.isPlain() ? split->second.with(spec) : spec;
      candidate.name = format::formatName(candidate.spec);
      Expected<uint64_t> bytes = format::matrixBytes(
          candidate.spec, tensor.rows / tensor.experts, tensor.columns);
      if (!bytes)
        return bytes.takeError();
      candidate.bytes = *bytes * uint64_t(tensor.experts);
      tensor.candidates.push_back(std::move(candidate));
    }
    if (!refused.empty())
      restricted[restrictionOf(tensor, refused)].push_back(tensor.name);
    out.tensors.push_back(std::move(tensor));
  }
  if (options.note)
    noteRestrictions(restricted, options);
  if (lossy && options.note)
    options.note(std::to_string(lossy) + " tensors of " + model.path +
                 " are quantized already: all losses are relative to this lossy source, not to the "
                 "float model it was made from");
  for (const auto &left : allocated)
    return createStringError("'" + options.allocation + "' is of another model: " + model.path +
                             " has no matrix '" + left.first() + "'");
  for (auto [used, pair] : llvm::zip(overrideUsed, options.overrides))
    if (!used)
      return createStringError("--override '" + pair.first + "' matches no tensor of " +
                               model.path);
  return out;
}

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
        return solution.takeError();
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
