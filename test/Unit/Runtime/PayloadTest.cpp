// A payload is mapped when whole and refused, with the reason, when not.
#include "quern/Runtime/Payload.h"
#include "Toy.h"
#include "quern/Runtime/Hash.h"
#include "quern/Runtime/Json.h"
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>

using namespace quern::runtime;

TEST(Payload, MapsSections) {
  Payload p;
  Status s = Payload::open(toy::writePayload("good.bin"), "", p);
  ASSERT_TRUE(s.ok()) << s.message;
  EXPECT_EQ(p.metadata(), "{\"name\": \"toy\"}");
  EXPECT_EQ(p.section(WeightSection).size(), (32 + toy::vocab) * 4u);
  EXPECT_TRUE(p.section(TokenizerSection).empty());
  EXPECT_TRUE(p.verifyWeights().ok());
  std::vector<uint8_t> before(p.section(WeightSection).begin(), p.section(WeightSection).end());
  ASSERT_TRUE(p.useHugePages().ok());
  EXPECT_EQ(before,
            std::vector<uint8_t>(p.section(WeightSection).begin(), p.section(WeightSection).end()));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(p.section(WeightSection).data()) % (2 << 20), 0u);
}

TEST(Payload, EveryDamagedFooterByteIsNoticed) {
  for (size_t i = 1; i <= sizeof(PayloadFooter); ++i) {
    Payload p;
    EXPECT_EQ(Payload::open(toy::writePayload("bad.bin", i), "", p).code, QUERN_ERROR_FILE) << i;
  }
  Payload p; // the metadata end right before the footer
  Status s = Payload::open(toy::writePayload("bad.bin", sizeof(PayloadFooter) + 3), "", p);
  EXPECT_NE(s.message.find("damaged"), std::string::npos) << s.message;
}

TEST(Payload, NamesWhatIsWrongWithAFile) {
  Payload p;
  Status s = Payload::open(toy::directory() + "/absent", "", p);
  EXPECT_NE(s.message.find("absent: cannot open"), std::string::npos) << s.message;
  s = Payload::open(toy::directory(), "", p);
  EXPECT_NE(s.message.find("not a regular file"), std::string::npos) << s.message;
  std::string path = toy::writePayload("cut.bin");
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
  EXPECT_NE(Payload::open(path, "", p).message.find("holds no model"), std::string::npos);
  std::filesystem::resize_file(path, 5);
  EXPECT_NE(Payload::open(path, "", p).message.find("too few"), std::string::npos);
}

TEST(Payload, HashIsTheSameHoweverCut) {
  std::vector<uint8_t> bytes(1001);
  for (size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = uint8_t(i * 37 + (i >> 3));
  Hash64 whole;
  whole.update(bytes.data(), bytes.size());
  for (size_t step : {1, 3, 7, 8, 13, 500}) {
    Hash64 parts;
    for (size_t at = 0; at < bytes.size(); at += step)
      parts.update(bytes.data() + at, std::min(step, bytes.size() - at));
    EXPECT_EQ(parts.finish(), whole.finish()) << step;
  }
  Hash64 shorter;
  shorter.update(bytes.data(), bytes.size() - 1);
  EXPECT_NE(shorter.finish(), whole.finish());
}

TEST(Json, ReadsAndWrites) {
  std::string error;
  Json j;
  ASSERT_TRUE(
      Json::parse(R"({"a": [1, -2.5e3, true, null], "b": "x\u00e9\ud83d\ude00\n"} )", j, error))
      << error;
  EXPECT_EQ(j["a"].items()[1].asNumber(), -2500);
  EXPECT_EQ(j["b"].asString(), "x\xC3\xA9\xF0\x9F\x98\x80\n");
  EXPECT_TRUE(j["c"].isNull());
  Json again;
  ASSERT_TRUE(Json::parse(j.print(), again, error)) << error;
  EXPECT_EQ(again.print(), j.print());
  EXPECT_EQ(jsonQuote("a\xFF\"\x01"), "\"a\xEF\xBF\xBD\\\"\\u0001\"");
  for (const char *bad :
       {"", "{", "[1,]", "{\"a\" 1}", "\"\\q\"", "tru", "1 2", "\"abc", "[\"\\u12\"]"})
    EXPECT_FALSE(Json::parse(bad, j, error)) << bad;
  EXPECT_FALSE(Json::parse(std::string(100000, '['), j, error));
}
