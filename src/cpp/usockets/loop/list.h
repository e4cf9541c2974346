// loop/list.h - intrusive lists: the links are members of the blocks, so that linking never allocates.

#pragma once

// ---- a doubly linked list that is only its head ----

template <typename T, auto Prev = &T::prev, auto Next = &T::next>
inline void us_list_push(T *&head, T *block) {
    block->*Prev = nullptr;
    block->*Next = head;
    if (head) {
        head->*Prev = block;
    }
    head = block;
}

template <typename T, auto Prev = &T::prev, auto Next = &T::next>
inline void us_list_remove(T *&head, T *block) {
    (block->*Prev ? block->*Prev->*Next : head) = block->*Next;
    if (block->*Next) {
        block->*Next->*Prev = block->*Prev;
    }
}

// ---- the same with its tail: the oldest block comes first ----

template <typename T>
struct us_aged_list_t {
    T *head = nullptr, *tail = nullptr;

    void append(T *block) {
        block->prev = tail;
        block->next = nullptr;
        (tail ? tail->next : head) = block;
        tail = block;
    }
    void remove(T *block) {
        (block->next ? block->next->prev : tail) = block->prev;
        us_list_remove(head, block);
    }
};

// ---- a queue, singly linked ----

template <typename T, auto Next>
struct us_queue_t {
    T *head = nullptr, *tail = nullptr;

    void push(T *block) {
        block->*Next = nullptr;
        (tail ? tail->*Next : head) = block;
        tail = block;
    }
    T *pop() {
        T *block = head;
        if (block && !(head = block->*Next)) {
            tail = nullptr;
        }
        return block;
    }
};

// ---- blocks that are freed later ----

// The base of a block that is freed by us_free_after_iteration().
struct us_deferred_free_t {
    us_deferred_free_t *next_dead;
};
