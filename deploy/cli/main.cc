#include "deploy/cli/run.h"

int main(int argc, char** argv) {
  muster::deploy::cli::World world = muster::deploy::cli::World::of_process();
  return muster::deploy::cli::run_program(world, std::vector<std::string>(argv + 1, argv + argc));
}
