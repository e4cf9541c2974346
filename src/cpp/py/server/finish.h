// The end of a server: after a stop, when its last connection and its last coroutine have ended, the instance is
// destroyed and the on_stopped hook is called, once. This happens while no thread runs the loop. GIL.
#pragma once

namespace uwserve {

class ServerCore;

class Finish {
  public:
    explicit Finish(ServerCore &core) : core_(core) {}
    Finish(const Finish &) = delete;
    Finish &operator=(const Finish &) = delete;

    bool has_begun() const { return has_begun_; }
    bool is_done() const { return is_done_; }
    void set_done() { is_done_ = true; }  // without a hook: the server has never listened
    // The outermost DispatchScope has ended, or a run. No turn of the loop follows in which a stop could go on.
    void after_scope();
    void task_ended();  // the last coroutine

  private:
    void run_if_idle();
    void run();

    ServerCore &core_;
    bool has_begun_ = false, is_done_ = false;
};

}  // namespace uwserve
