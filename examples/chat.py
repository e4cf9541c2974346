"""The chat of ``uwserve chat``: python examples/chat.py, then open the printed URL in two windows."""

from uwserve.demo import chat

if __name__ == "__main__":
    with chat.create(port=3000, hostname="127.0.0.1") as server:
        print(f"chat on {server.url}", flush=True)
        server.run()
