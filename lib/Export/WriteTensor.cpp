//===- WriteTensor.cpp - The bytes of one output tensor -------------------===//
//
// Copies stored rows where only their order changes; decodes and encodes again, a
// slice of rows at a time, where the type does.
//
//===----------------------------------------------------------------------===//
#include "Plan.h"
#include "quern/Format/Encode.h"
#include "quern/Import/TensorTypes.h"

using namespace llvm;

namespace quern::exporter {

Error finish(OutTensor &tensor) {
  std::optional<uint64_t> size =
      import::storedBytes(tensor.type.blockElements, tensor.type.blockBytes, tensor.shape);
  if (!size)
    return createStringError("tensor '" + tensor.name + "': its rows are not whole blocks of " +
                             tensor.type.name);
  tensor.size = *size;
  return Error::success();
}

/// The row of the source that output row `row` is.
static int64_t sourceRow(const OutTensor &tensor, int64_t row, int64_t rows) {
  if (tensor.heads == 0)
    return row;
  int64_t perHead = rows / tensor.heads, head = row / perHead, j = row % perHead,
          half = perHead / 2;
  int64_t from = tensor.toInterleaved ? (j % 2) * half + j / 2 : (j % half) * 2 + j / half;
  return head * perHead + from;
}

static Error encodeRows(const OutTensor &tensor, ArrayRef<float> values, int64_t firstRow,
                        int64_t rows, int64_t cols, raw_ostream &os) {
  format::Components components;
  if (Error e =
          format::encode(tensor.type.spec, values, rows, cols, components,
                         tensor.source ? tensor.source->name : tensor.name, firstRow))
    return e;
  std::vector<uint8_t> bytes;
  if (tensor.type.gguf) {
    bytes.resize(rows * (cols / tensor.type.blockElements) * tensor.type.blockBytes);
    if (Error e = tensor.type.gguf->pack(components, bytes))
      return e;
  } else {
    Expected<std::vector<std::vector<uint8_t>>> arrays =
        format::packCanonical(tensor.type.spec, components);
    if (!arrays)
      return arrays.takeError();
    bytes = std::move(arrays->front()); // plain numbers have one component
  }
  os.write(reinterpret_cast<const char *>(bytes.data()), bytes.size());
  return Error::success();
}

Error writeTensor(const import::ModelFile &model, const OutTensor &tensor, raw_ostream &os) {
  if (tensor.size == 0)
    return Error::success();
  int64_t cols = tensor.shape.empty() ? 1 : tensor.shape.back(), rows = 1;
  for (size_t i = 0; i + 1 < tensor.shape.size(); ++i)
    rows *= tensor.shape[i];
  if (tensor.heads && tensor.shape.size() == 1) // a bias: reordered element by element
    std::swap(rows, cols);
  if (!tensor.source)
    return encodeRows(tensor, tensor.values, 0, rows, cols, os);

  const import::TensorInfo &source = *tensor.source;
  auto error = [&](Error e) {
    return createStringError(model.path + ": tensor '" + source.name +
                             "': " + toString(std::move(e)));
  };
  Expected<import::TensorBytes> mapped = import::mapTensor(model, source);
  if (!mapped)
    return mapped.takeError();
  ArrayRef<uint8_t> bytes = mapped->bytes();
  if (tensor.expert >= 0) {
    uint64_t one = source.size / source.shape[0];
    bytes = bytes.slice(one * tensor.expert, one);
  }
  uint64_t rowBytes = bytes.size() / rows;
  bool same = source.decodable && source.spec == tensor.type.spec && tensor.addend == 0;
  if (!same && !source.decodable)
    return error(createStringError("numbers of type " + source.fileType + " cannot be converted"));
  // Reordering reverses the roles of the two dimensions of a head, so heads of odd size cannot be.
  if (tensor.heads && (rows % (2 * tensor.heads) != 0))
    return error(createStringError("its " + Twine(rows) + " rows are not those of " +
                                   Twine(tensor.heads) + " rotary heads"));

  int64_t slice = std::max<int64_t>(1, (int64_t(1) << 20) / std::max<int64_t>(cols, 1));
  std::vector<uint8_t> reordered;
  std::vector<float> values;
  for (int64_t first = 0; first < rows; first += slice) {
    int64_t count = std::min(slice, rows - first);
    ArrayRef<uint8_t> stored = bytes.slice(first * rowBytes, count * rowBytes);
    if (tensor.heads) {
      reordered.resize(count * rowBytes);
      for (int64_t i = 0; i < count; ++i)
        std::copy_n(bytes.data() + sourceRow(tensor, first + i, rows) * rowBytes, rowBytes,
                    reordered.data() + i * rowBytes);
      stored = reordered;
    }
    if (same) {
      os.write(reinterpret_cast<const char *>(stored.data()), stored.size());
      continue;
    }
    values.resize(count * cols);
    if (Error e = import::decodeRows(source, stored, count, cols, values))
      return error(std::move(e));
    if (tensor.addend != 0)
      for (float &value : values)
        value += tensor.addend;
    if (Error e = encodeRows(tensor, values, first, count, cols, os)) // it names the tensor
      return createStringError(model.path + ": " + toString(std::move(e)));
  }
  return Error::success();
}

} // namespace quern::exporter
