#include "deploy/cli/flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace muster::deploy::cli {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

struct Parsed {
  bool detach = false, tty = false, interactive = false;
  std::optional<std::string> name;
  std::vector<std::string> env, args;
  Status status;
};

Parsed parse(const std::vector<std::string>& words, bool stop = false) {
  Parsed out;
  Flags flags;
  flags.toggle("detach,d", &out.detach, "");
  flags.toggle("tty,t", &out.tty, "");
  flags.toggle("interactive,i", &out.interactive, "");
  flags.value("name,n", &out.name, "NAME", "");
  flags.list("env,e", &out.env, "K=V", "");
  if (stop) flags.stop_at_first_argument();
  auto args = flags.parse(words);
  if (args)
    out.args = *args;
  else
    out.status = args.error();
  return out;
}

TEST(Flags, OptionsAndArgumentsMix) {
  const Parsed p = parse({"a", "--name", "web", "b", "-d"});
  EXPECT_EQ(p.name, "web");
  EXPECT_TRUE(p.detach);
  EXPECT_THAT(p.args, ElementsAre("a", "b"));
}

TEST(Flags, EveryFormOfAValue) {
  EXPECT_EQ(parse({"--name=x=y"}).name, "x=y");
  EXPECT_EQ(parse({"-nx"}).name, "x");
  EXPECT_EQ(parse({"-n=x"}).name, "x");
  EXPECT_EQ(parse({"-n", "-1"}).name, "-1");
  EXPECT_EQ(parse({"--name", "--detach"}).name, "--detach");
  EXPECT_EQ(parse({"--name="}).name, "");
}

TEST(Flags, LettersJoinAndSwitchesTakeBooleans) {
  const Parsed p = parse({"-it"});
  EXPECT_TRUE(p.tty && p.interactive);
  EXPECT_FALSE(parse({"--detach=false"}).detach);
  EXPECT_EQ(
      parse({"--detach=maybe"}).status.message(),
      "invalid argument \"maybe\" for \"--detach\" flag: \"maybe\" is neither true nor false");
}

TEST(Flags, ListValuesAreTakenAsWritten) {
  EXPECT_THAT(parse({"-e", "[a,b]", "--env={}", "-e", "x"}).env, ElementsAre("[a,b]", "{}", "x"));
}

TEST(Flags, TheRestIsPassedOn) {
  const Parsed p = parse({"-d", "image", "sh", "-c", "--name"}, true);
  EXPECT_THAT(p.args, ElementsAre("image", "sh", "-c", "--name"));
  EXPECT_FALSE(p.name.has_value());
  EXPECT_THAT(parse({"--", "-d"}).args, ElementsAre("-d"));
}

TEST(Flags, MistakesSayWhatIsWrong) {
  EXPECT_EQ(parse({"--nope"}).status.message(), "unknown flag: --nope");
  EXPECT_EQ(parse({"-dx"}).status.message(), "unknown shorthand flag: 'x' in -dx");
  EXPECT_EQ(parse({"--name"}).status.message(), "flag needs an argument: --name");
  EXPECT_EQ(parse({"-n"}).status.message(), "flag needs an argument: 'n' in -n");
  EXPECT_EQ(parse({"-n"}).status.reason(), "usage");
}

}  // namespace
}  // namespace muster::deploy::cli
