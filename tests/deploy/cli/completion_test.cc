// The completion scripts in the real shells, on a pseudo-terminal: what is typed with a tab is run,
// and the answer tells what the shell had made of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/deploy/cli/terminal.h"

namespace muster::deploy::cli {
namespace {

using testing::ElementsAre;

class Completion : public Terminal {
 protected:
  Completion() {
    daemon_.add_service("web", 1);
    daemon_.add_service("worker", 2);
    v1::Image image;
    image.add_references("127.0.0.1:5000/busybox:1");
    daemon_.images.push_back(image);
  }

  void start_shell(const std::string& shell, std::vector<std::string> words) {
    ASSERT_TRUE(std::filesystem::exists(shell)) << shell << " is not installed";
    words.insert(words.begin(), shell);
    const std::string folder = std::filesystem::path(MUSTER_PROGRAM).parent_path();
    start_program(std::move(words), {"PATH=" + folder + ":/usr/bin:/bin", "TERM=dumb", "PS1=> ",
                                     "HOME=/nonexistent", "INPUTRC=/dev/null", "LC_ALL=C"});
  }
  // Types a line and waits for what it makes some program say.
  void enter(const std::string& line, const std::string& answer) {
    clear();
    type(line + "\n");
    ASSERT_TRUE(expect(answer)) << "typed: " << line << "\nscreen: " << screen_;
  }
  void complete_in_this_shell() {
    enter("muster vers\t", "Server:");
    enter("muster service ps wor\t", "worker.2");
    enter("muster service scale -d wor\t3", "worker scaled to 3");
    enter("muster service ls --form\t'<{{.Name}}>'", "<worker>");
    enter("muster image rm 127.0.0.1:5000/bu\t", "Untagged: 127.0.0.1:5000/busybox:1");
    enter("muster node update --availability dr\thost1", "host1\r\n");
    enter("muster node update --availability=pa\thost1", "host1\r\n");
    enter("muster --socket " + daemon_.address() + " service inspect -f '<{{.ID}}>' we\t",
          "<id-web>");
    type("exit\n");
    EXPECT_EQ(finish(), 0);
    ASSERT_EQ(daemon_.updated_nodes.size(), 2U);
    EXPECT_EQ(daemon_.updated_nodes[0].spec().availability(), v1::NodeSpec::DRAIN);
    EXPECT_EQ(daemon_.updated_nodes[1].spec().availability(), v1::NodeSpec::PAUSE);
  }
};

TEST_F(Completion, Bash) {
  start_shell("/usr/bin/bash", {"--norc", "--noprofile", "-i"});
  enter("source <(muster completion bash); echo re''ady", "ready");
  complete_in_this_shell();
}

TEST_F(Completion, Zsh) {
  start_shell("/usr/bin/zsh", {"-f", "-i"});
  enter("autoload -U compinit; compinit -D -u; echo re''ady", "ready");
  enter("source <(muster completion zsh); echo so''urced", "sourced");
  complete_in_this_shell();
}

}  // namespace
}  // namespace muster::deploy::cli
