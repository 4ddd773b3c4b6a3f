//===- Weights.cpp - The values of a stored weight ------------------------===//
//
// Gathers byte ranges from files and hands them to the Format library, one matrix of a
// stack at a time.
//
//===----------------------------------------------------------------------===//
#include "quern/Reference/Weights.h"
#include "mlir/IR/SymbolTable.h"
#include "quern/Format/Encode.h"
#include "quern/Format/FileType.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"

using namespace mlir;
using namespace quern;
using llvm::Error;
using llvm::Expected;

namespace {
/// The shape of a weight as a stack of matrices; a vector is one row.
struct Stack {
  int64_t count = 1, rows = 1, cols = 1;

  explicit Stack(RankedTensorType type) {
    llvm::ArrayRef<int64_t> shape = type.getShape();
    cols = shape.back();
    if (shape.size() > 1)
      rows = shape[shape.size() - 2];
    for (int64_t size : shape.drop_back(std::min<size_t>(2, shape.size())))
      count *= size;
  }
  int64_t matrixSize() const { return rows * cols; }
};

using Bytes = std::vector<uint8_t>;
} // namespace

static Error weightError(WeightOp weight, const llvm::Twine &message) {
  return llvm::createStringError("weight '" + weight.getSymName() + "': " + message);
}

static Error appendComponent(WeightOp weight, ComponentAttr part, Bytes &out) {
  auto file = SymbolTable::lookupNearestSymbolFrom<FileOp>(weight, part.getFile());
  if (!file)
    return weightError(weight, "no file is called @" + part.getFile().getValue());
  uint64_t size = 0;
  if (std::error_code error = llvm::sys::fs::file_size(file.getPath(), size))
    return weightError(weight, file.getPath() + ": " + error.message());
  if (size != file.getSize())
    return weightError(weight, file.getPath() + ": expected a file of " +
                                   llvm::Twine(file.getSize()) + " bytes, found " +
                                   llvm::Twine(size));
  auto buffer = llvm::MemoryBuffer::getFileSlice(file.getPath(), part.getSize(), part.getOffset());
  if (!buffer)
    return weightError(weight, file.getPath() + ": " + buffer.getError().message());
  llvm::StringRef bytes = (*buffer)->getBuffer();
  out.insert(out.end(), bytes.bytes_begin(), bytes.bytes_end());
  return Error::success();
}

static format::Role formatRole(ComponentRole role) {
  switch (role) {
  case ComponentRole::Data:
  case ComponentRole::Codes:
    return format::Role::Codes;
  case ComponentRole::Scales:
    return format::Role::Scale;
  case ComponentRole::Offsets:
    return format::Role::Offset;
  case ComponentRole::Zeros:
    return format::Role::Zero;
  case ComponentRole::Table:
    return format::Role::Table;
  }
  llvm_unreachable("all roles are covered");
}

/// The arrays of all matrices, one for each canonical component.
static Expected<std::vector<Bytes>>
readCanonical(WeightOp weight, const std::vector<format::ComponentInfo> &infos, int64_t count) {
  std::vector<Bytes> arrays(infos.size());
  bool together = false;
  for (auto part : weight.getComponents()->getAsRange<ComponentAttr>()) {
    together |= part.getRole() == ComponentRole::Data;
    auto info = llvm::find_if(infos, [&](const format::ComponentInfo &i) {
      return i.role == formatRole(part.getRole()) && i.level == part.getLevel();
    });
    if (info == infos.end())
      return weightError(weight, "its format has no component '" + stringifyEnum(part.getRole()) +
                                     "' of level " + llvm::Twine(part.getLevel()));
    if (Error error = appendComponent(weight, part, arrays[info - infos.begin()]))
      return error;
  }
  // `data` holds the components of a matrix one after another, matrix after matrix.
  if (together && infos.size() > 1) {
    Bytes all = std::move(arrays[0]);
    arrays[0].clear();
    uint64_t position = 0;
    for (int64_t i = 0; i < count; ++i)
      for (auto [info, array] : llvm::zip(infos, arrays)) {
        if (info.size() > all.size() - position)
          return weightError(weight, "its data ends early");
        array.insert(array.end(), all.begin() + position, all.begin() + position + info.size());
        position += info.size();
      }
  }
  for (auto [info, array] : llvm::zip(infos, arrays))
    if (array.size() != info.size() * count)
      return weightError(weight, "expected " + llvm::Twine(info.size() * count) +
                                     " bytes in a component, found " + llvm::Twine(array.size()));
  return arrays;
}

/// A sum or a split: each matrix is one run of bytes.
static Error decodeWhole(WeightOp weight, const format::Spec &spec, const Stack &stack,
                         llvm::MutableArrayRef<float> out, std::vector<int32_t> *columns) {
  Bytes bytes;
  for (auto part : weight.getComponents()->getAsRange<ComponentAttr>())
    if (Error error = appendComponent(weight, part, bytes))
      return error;
  uint64_t each = bytes.size() / uint64_t(stack.count);
  for (int64_t i = 0; i < stack.count; ++i) {
    format::Components components;
    if (Error error = format::unpackWhole(spec, llvm::ArrayRef(bytes).slice(i * each, each),
                                          stack.rows, stack.cols, components))
      return weightError(weight, llvm::toString(std::move(error)));
    if (Error error =
            format::decode(spec, components, out.slice(i * stack.matrixSize(), stack.matrixSize())))
      return error;
    if (columns && spec.kind == format::Spec::Kind::Split)
      *columns = std::move(components.permutation);
  }
  return Error::success();
}

static Error decodeCanonical(WeightOp weight, const format::Spec &spec, const Stack &stack,
                             llvm::MutableArrayRef<float> out, std::vector<int32_t> *columns) {
  if (spec.kind != format::Spec::Kind::Base)
    return decodeWhole(weight, spec, stack, out, columns);
  auto infos = format::canonicalComponents(spec, stack.rows, stack.cols);
  Expected<std::vector<Bytes>> arrays = readCanonical(weight, infos, stack.count);
  if (!arrays)
    return arrays.takeError();
  for (int64_t i = 0; i < stack.count; ++i) {
    std::vector<llvm::ArrayRef<uint8_t>> slices;
    for (auto [info, array] : llvm::zip(infos, *arrays))
      slices.push_back(llvm::ArrayRef(array).slice(i * info.size(), info.size()));
    format::Components components;
    if (Error error = format::unpackCanonical(spec, slices, 0, stack.rows, stack.cols, components))
      return error;
    if (Error error =
            format::decode(spec, components, out.slice(i * stack.matrixSize(), stack.matrixSize())))
      return error;
  }
  return Error::success();
}

static Error decodeGguf(WeightOp weight, const format::Spec &spec, const Stack &stack,
                        llvm::MutableArrayRef<float> out) {
  const format::FileType *type = format::ggufType(spec);
  if (!type)
    return weightError(weight, "GGUF has no type for its format");
  Bytes bytes;
  for (auto part : weight.getComponents()->getAsRange<ComponentAttr>())
    if (Error error = appendComponent(weight, part, bytes))
      return error;
  Expected<uint64_t> rowBytes = type->rowBytes(stack.cols);
  if (!rowBytes)
    return rowBytes.takeError();
  int64_t rows = stack.count * stack.rows;
  if (bytes.size() != *rowBytes * rows)
    return weightError(weight, "expected " + llvm::Twine(*rowBytes * rows) + " bytes, found " +
                                   llvm::Twine(bytes.size()));
  return type->decode(bytes, rows, stack.cols, out);
}

/// The values of a weight that is another one encoded anew: what its codes decode to.
static Expected<std::vector<float>> decodeEncoded(WeightOp weight, FlatSymbolRefAttr from,
                                                  std::vector<int32_t> *columns) {
  auto stored = SymbolTable::lookupNearestSymbolFrom<WeightOp>(weight, from);
  if (!stored || stored.getTensorType().getShape() != weight.getTensorType().getShape())
    return weightError(weight, "is encoded from @" + from.getValue() +
                                   ", which is not a weight of its shape");
  Expected<std::vector<float>> values = quern::reference::decodeWeight(stored);
  if (!values)
    return values;
  format::Spec spec = getFormat(weight.getTensorType());
  Stack stack(weight.getTensorType());
  auto named = weight->getAttrOfType<DenseI32ArrayAttr>(kSplitColumnsAttr);
  for (int64_t i = 0; i < stack.count; ++i) {
    llvm::MutableArrayRef<float> matrix(values->data() + i * stack.matrixSize(),
                                        stack.matrixSize());
    format::Components components;
    if (Error error =
            format::encode(spec, matrix, stack.rows, stack.cols, components, weight.getSymName(), 0,
                           named ? named.asArrayRef() : llvm::ArrayRef<int32_t>()))
      return error;
    if (Error error = format::decode(spec, components, matrix))
      return error;
    if (columns && spec.kind == format::Spec::Kind::Split)
      *columns = std::move(components.permutation);
  }
  return values;
}

Expected<std::vector<float>> quern::reference::decodeWeight(WeightOp weight,
                                                            std::vector<int32_t> *columns) {
  if (weight.isView())
    return weightError(weight, "a view has no data of its own");
  // Left by the pipeline where a float weight is to be packed in another format.
  if (auto from = weight->getAttrOfType<FlatSymbolRefAttr>(QuernDialect::kEncodedFromAttr))
    return decodeEncoded(weight, from, columns);
  if (!weight.getComponents() || !weight.getLayout())
    return weightError(weight, "has no data yet");
  RankedTensorType type = weight.getTensorType();
  format::Spec spec = getFormat(type);
  Stack stack(type);
  std::vector<float> values(type.getNumElements());
  Error error = Error::success();
  switch (weight.getLayout()->getKind()) {
  case LayoutKind::Canonical:
    error = decodeCanonical(weight, spec, stack, values, columns);
    break;
  case LayoutKind::GGUF:
    error = decodeGguf(weight, spec, stack, values);
    break;
  case LayoutKind::Panel:
    error = weightError(weight, "is packed for kernels; interpret the module before packing");
    break;
  }
  if (error)
    return error;
  return values;
}
