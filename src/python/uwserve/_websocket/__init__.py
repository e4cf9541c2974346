"""WebSockets: the base class of handlers, states, and the coroutines that wait for a socket."""
