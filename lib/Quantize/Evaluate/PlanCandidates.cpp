//===- PlanCandidates.cpp - Which formats each tensor may take ------------===//
//
// From the options: formats to choose from, pins, allocations; and the source: blocks that divide
// rows, column splits, experts.
//
//===----------------------------------------------------------------------===//
#include "Candidates.h"
#include "quern/Format/Encode.h"
#include "quern/Format/Known.h"
#include "quern/Format/Size.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/GlobPattern.h"
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
    "i7, scale f16[1x*] * i8[1x32]", "i8, scale f16[1x*] * i8[1x32]"};

/// A format by name, one of GGUF's types if `gguf`.
static Expected<format::Spec> findFormat(StringRef name, bool gguf) {
  Expected<format::Spec> spec = format::parseBaseFormat(name);
  if (spec)
    if (Error e = format::checkEncodable(*spec))
      return std::move(e);
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
  // No format: the tensor's own.
  std::vector<std::pair<llvm::GlobPattern, std::optional<format::Spec>>> overrides;
  for (const auto &[pattern, name] : options.overrides) {
    auto glob = llvm::GlobPattern::create(pattern);
    if (!glob)
      return createStringError("--override '" + pattern + "': " + llvm::toString(glob.takeError()));
    std::optional<format::Spec> own;
    if (name != "keep")
      if (Error e = findFormat(name, gguf).moveInto(own))
        return std::move(e);
    overrides.emplace_back(std::move(*glob), std::move(own));
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
        if (!pair.second && !info.spec.isPlain())
          return createStringError("--override '" + options.overrides[o].first +
                                   "=keep' keeps floats as they are; tensor '" + info.name +
                                   "' is " + info.fileType);
        specs = {pair.second.value_or(info.spec)};
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
