"""Ascents of one model in two threads, which share its twin: hooks and the pass they belong to are one thread's."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain

import numpy as np
import torch
from ascent_fixture import SMALL, pictures

from lsd.features import networks
from lsd.features import prepare as preparing
from lsd.features.prepare import prepare
from lsd.features.regularizers import BatchNormStatistics

RECIPE = replace(SMALL, steps=3, batch_norm=1.0, redirect_steps=0)


def test_two_ascents_that_listen_to_one_network_do_not_meet(demo, monkeypatch):
    """Both have hooked their listeners, or one is kept out, before the network is run."""
    model, both = demo("resnet"), threading.Barrier(2)
    seeds = [(0,), (1, 2, 3)]  # batches of different sizes, so that what is heard of the other's does not fit
    alone = [pictures(model, ["class/3"], RECIPE, some) for some in seeds]
    run_to = networks.run_to

    def meet(*args):
        with contextlib.suppress(threading.BrokenBarrierError):  # the other waits for the lock
            both.wait(1)
        return run_to(*args)

    monkeypatch.setattr(networks, "run_to", meet)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda some: pictures(model, ["class/3"], RECIPE, some), seeds))
    for mine, expected in zip(chain(*found), chain(*alone), strict=True):
        assert mine.trace == expected.trace and np.array_equal(mine.pixels, expected.pixels)
    assert not any(m._forward_pre_hooks for m in prepare(model, fold=False).modules())


def test_ascents_that_look_at_each_others_networks_do_not_wait_for_ever(demo, monkeypatch):
    """A network's lock is not held while another network runs."""
    first, second = demo("resnet"), demo("convnext")
    held, run_to = [], networks.run_to

    def watch(network, *args):
        others = [twin for twin in twins if twin is not network]
        with ThreadPoolExecutor(1) as pool:
            held.extend(not pool.submit(_is_free, twin.lock).result() for twin in others)
        return run_to(network, *args)

    twins = []
    monkeypatch.setattr(
        networks, "prepare", lambda *args, **kwargs: twins.append(prepare(*args, **kwargs)) or twins[-1]
    )
    monkeypatch.setattr(networks, "run_to", watch)
    pictures(first, [f"class/3 + {second.name}::class/3"], RECIPE, others=[second])
    assert held and not any(held)


def _is_free(lock):
    free = lock.acquire(blocking=False)
    if free:
        lock.release()
    return free


def test_a_listener_hears_only_its_own_thread(image_model, pictures):
    model, x = image_model("test_resnet"), pictures(2)
    with BatchNormStatistics(model, 2) as norms:
        model(x)
    expected, hooked, run = norms.value, threading.Event(), threading.Event()

    def intrude():
        assert hooked.wait(20)
        run.set()
        model.probabilities(x)

    thread = threading.Thread(target=intrude)
    thread.start()
    with BatchNormStatistics(model, 2) as norms:
        hooked.set()
        assert run.wait(20)
        thread.join(0.5)  # as long as the listener is there, the other one's pass is not
        model(x)
    thread.join()
    assert torch.equal(norms.value, expected)


def test_a_smaller_twin_is_tried_while_nobody_listens(demo, monkeypatch):
    """The trial pass of a twin for smaller pictures is not heard by an ascent on the larger one, which shares its network."""
    model = demo("resnet")
    twin = prepare(model, fold=False)
    found = []
    monkeypatch.setattr(
        preparing, "_prepared", {model: preparing._Twins((None, False, False, twin.device, twin.dtype), twin)}
    )
    thread = threading.Thread(target=lambda: found.append(prepare(model, fold=False, share=0.5)))
    with BatchNormStatistics(twin, 1) as norms:
        thread.start()
        thread.join(0.5)
        assert norms._terms == [] and thread.is_alive()
    thread.join()
    assert found[0].net is twin.net


def test_other_peoples_hooks_are_not_copied_into_a_twin(demo, monkeypatch):
    """Where folding turns out to change the network, it is copied once more, and somebody else may have come meanwhile."""
    model, found = demo("resnet"), []
    copied, hooked = threading.Event(), threading.Event()

    def spoil(net, conv, _norm):
        copied.set()
        assert hooked.wait(20)
        layer = net.get_submodule(conv)  # another tensor in its place: its memory is the model's, too
        layer.weight = torch.nn.Parameter(torch.zeros_like(layer.weight), requires_grad=False)

    monkeypatch.setattr(preparing, "_fold", spoil)
    monkeypatch.setattr(preparing, "_prepared", {})
    thread = threading.Thread(target=lambda: found.append(prepare(model)))
    thread.start()
    assert copied.wait(20)
    with model.lock:
        handle = model.net.register_forward_pre_hook(lambda *_: None)
        hooked.set()
        thread.join(0.5)
        handle.remove()
    thread.join()
    assert not found[0].net._forward_pre_hooks
