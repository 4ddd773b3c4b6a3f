#include "quern/Target/TargetInfo.h"
#include "gtest/gtest.h"

using namespace quern::target;

TEST(TargetInfo, UnknownNameListsTheKnownOnes) {
  auto target = lookup("pentium");
  ASSERT_FALSE(bool(target));
  std::string message = llvm::toString(target.takeError());
  EXPECT_NE(message.find("'pentium'"), std::string::npos);
  for (const TargetInfo &t : knownTargets())
    EXPECT_NE(message.find(t.name), std::string::npos) << t.name;
}

TEST(TargetInfo, PortableTargetsAreKnown) {
  for (llvm::StringRef name : portableTargets())
    EXPECT_TRUE(bool(lookup(name))) << name.str();
}
