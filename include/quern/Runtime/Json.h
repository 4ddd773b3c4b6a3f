//===- Json.h - The little JSON the runtime reads and writes ----*- C++ -*-===//
//
// Reads the metadata of a payload and the header of a saved baseline; writes reports.
// Numbers are doubles, objects keep their order.
//
//===----------------------------------------------------------------------===//
#ifndef QUERN_RUNTIME_JSON_H
#define QUERN_RUNTIME_JSON_H

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace quern::runtime {

class Json {
public:
  enum class Kind { Null, Bool, Number, String, Array, Object };
  Json() = default;
  Json(bool v) : type(Kind::Bool), number(v) {}
  Json(double v) : type(Kind::Number), number(v) {}
  Json(int v) : Json(double(v)) {}
  Json(int64_t v) : Json(double(v)) {}
  Json(uint64_t v) : Json(double(v)) {}
  Json(std::string v) : type(Kind::String), text(std::move(v)) {}
  Json(const char *v) : Json(std::string(v)) {}
  static Json array() { return Json(Kind::Array); }
  static Json object() { return Json(Kind::Object); }

  /// False and a message (with the byte where it happened) on malformed text; nesting is limited.
  static bool parse(std::string_view text, Json &out, std::string &error);
  std::string print() const;

  Kind kind() const { return type; }
  bool isNull() const { return type == Kind::Null; }
  double asNumber(double fallback = 0) const { return type == Kind::Number ? number : fallback; }
  bool asBool(bool fallback = false) const { return type == Kind::Bool ? number != 0 : fallback; }
  const std::string &asString() const { return text; } ///< empty unless a string
  const std::vector<Json> &items() const { return elements; }
  const std::vector<std::pair<std::string, Json>> &members() const { return fields; }
  /// The member of that name, or null.
  const Json &operator[](std::string_view name) const;
  /// Appends a member (the caller keeps names unique) or an element.
  Json &set(std::string name, Json value);
  Json &push(Json value);

private:
  explicit Json(Kind kind) : type(kind) {}
  friend class JsonParser;
  void print(std::string &out) const;
  Kind type = Kind::Null;
  double number = 0;
  std::string text;
  std::vector<Json> elements;
  std::vector<std::pair<std::string, Json>> fields;
};

/// `text` as a JSON string with its quotes; invalid UTF-8 becomes U+FFFD.
std::string jsonQuote(std::string_view text);

/// The decimal number at the start of `text`, in any locale; its length, 0 if there is none or it
/// is too large.
size_t parseDecimal(std::string_view text, double &out);

} // namespace quern::runtime

#endif // QUERN_RUNTIME_JSON_H
