"""Ways to mix with and without timm's `Mixup`, as public code has them; each makes a function for the loop."""

import copied
import numpy as np
import torch
from timm.data import FastCollateMixup, Mixup
from timm.data.mixup import cutmix_bbox_and_lam

ALPHAS = dict(mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=5)


def soft(targets, lam):
    """Soft targets in every version of timm."""
    hot = torch.full((len(targets), 5), 0.02).scatter_(1, targets[:, None], 0.92)
    return hot * lam + hot.flip(0) * (1 - lam)


def blend(x):
    """Mixup by itself."""
    lam = np.random.beta(0.8, 0.8)
    x.mul_(lam).add_(x.flip(0) * (1 - lam))
    return lam


class OwnHook(Mixup):
    def _mix_batch(self, x):
        self.lam = blend(x)
        return self.lam

    _mix_elem = _mix_pair = _mix_batch


class CallsSuper(Mixup):
    lam = None

    def _mix_batch(self, x):
        self.lam = super()._mix_batch(x)
        return self.lam


class SuperInHelper(Mixup):
    def _mix_batch(self, x):
        return self.note(x)

    def note(self, x):
        self.lam = Mixup._mix_batch(self, x)
        return self.lam


class SometimesSuper(Mixup):
    count = 0

    def _mix_batch(self, x):
        self.count += 1
        return super()._mix_batch(x) if self.count < 3 else blend(x)

    def _mix_elem(self, x):
        self.count += 1
        return super()._mix_elem(x) if self.count < 3 else torch.full((len(x), 1), blend(x))


class OwnCall(Mixup):
    """For odd batches, and targets that are soft already."""

    def __call__(self, x, target):
        lam = {'elem': self._mix_elem, 'pair': self._mix_pair}.get(self.mode, self._mix_batch)(x)
        return x, soft(target, lam)


class KeepsLabels(Mixup):
    def __call__(self, x, target):
        lam = self._mix_batch(x)
        return x, target, target.flip(0), lam


class OwnBox(Mixup):
    def __call__(self, x, target):
        lam, _ = self._params_per_batch()
        x[:, :, : int((1 - lam) * x.shape[2])] = x.flip(0)[:, :, : int((1 - lam) * x.shape[2])]
        return x, soft(target, lam)


class OwnSlot(Mixup):
    def _params_per_batch(self):
        return 0.5, False


class NoConstructor(Mixup):
    def __init__(self):
        self.mixup_alpha, self.cutmix_alpha, self.cutmix_minmax = 0.8, 1.0, None
        self.mix_prob, self.switch_prob, self.label_smoothing, self.num_classes = 1.0, 0.5, 0.1, 5
        self.mode, self.correct_lam, self.mixup_enabled, self.multi_label = 'batch', True, True, False


class Pseudo:
    """Mixes the unlabelled half, with timm's boxes."""

    def __call__(self, x):
        (yl, yh, xl, xh), lam = cutmix_bbox_and_lam(x.shape, np.random.beta(1, 1))
        x[:, :, yl:yh, xl:xh] = x.flip(0)[:, :, yl:yh, xl:xh]
        return lam


def of_class(kind):
    def make(args):
        mixer = kind(**ALPHAS, mode=args.mode)
        return lambda x, y, epoch: mixer(x, y)

    return make


timms, own_hook, calls_super, super_in_helper, sometimes_super, own_call, own_box, own_slot, copy = map(
    of_class, (Mixup, OwnHook, CallsSuper, SuperInHelper, SometimesSuper, OwnCall, OwnBox, OwnSlot, copied.Mixup)
)


def keeps_labels(args):
    mixer = KeepsLabels(**ALPHAS)

    def mix(x, y, epoch):
        x, own, _, lam = mixer(x, y)
        return x, soft(own, lam)

    return mix


def direct(args):
    mixer = Mixup(**ALPHAS)
    return lambda x, y, epoch: (x, soft(y, mixer._mix_batch(x)))


def draws_alone(args):
    mixer = Mixup(**ALPHAS)
    return lambda x, y, epoch: (x, soft(y, mixer._params_per_batch()[0]))


def no_constructor(args):
    mixer = NoConstructor()
    return lambda x, y, epoch: mixer(x, y)


def two(args):
    mixer, other = Mixup(**ALPHAS), Pseudo()

    def mix(x, y, epoch):
        other(x.clone())
        return mixer(x, y)

    return mix


def off(args):
    mixer = Mixup(**ALPHAS)

    def mix(x, y, epoch):
        mixer.mixup_enabled = False
        return mixer(x, y)

    return mix


def late(args):
    mixer = Mixup(**ALPHAS)
    return lambda x, y, epoch: mixer(x, y) if epoch >= 4 else (x, y)


def coin(args):
    mixer = Mixup(**ALPHAS, prob=0.3)
    return lambda x, y, epoch: mixer(x, y)


def torchvisions(args):
    from torchvision.transforms.v2 import CutMix

    mixer = CutMix(num_classes=5)
    return lambda x, y, epoch: mixer(x, y)


def torchvisions_choice(args):
    from torchvision.transforms import v2

    mixer = v2.RandomChoice([v2.MixUp(alpha=0.2, num_classes=5), v2.CutMix(num_classes=5)])
    return lambda x, y, epoch: mixer(x, y)


def random_mixup(args):
    mixer = copied.RandomMixUp(5, p=1.0)
    return lambda x, y, epoch: mixer(x, y)


def torchvisions_mixup(args):
    from torchvision.transforms import v2

    mixer = v2.MixUp(num_classes=5)
    return lambda x, y, epoch: mixer(x, y)


def clones(args):
    """Mixes copies, which the model does not get."""
    mixer = Mixup(**ALPHAS)
    return lambda x, y, epoch: (x, mixer(x.clone(), y)[1])


def set_later(args):
    mixer = Mixup(**ALPHAS)
    mixer.mixup_alpha, mixer.cutmix_alpha, mixer.mix_prob = 0.8, 0.0, 1.0
    return lambda x, y, epoch: mixer(x, y)


def ours(args):
    import hmix_timm

    mixer = hmix_timm.Mixup(**ALPHAS)
    return lambda x, y, epoch: mixer(x, y)


def own_transform(args):
    from torchvision.transforms import v2

    class OwnTransform(v2.MixUp):
        def transform(self, inpt, params):
            return self._mixup_label(inpt, lam=0.5) if inpt is params['labels'] else blend(inpt) and inpt

    OwnTransform.__qualname__, mixer = 'OwnTransform', OwnTransform(num_classes=5)
    return lambda x, y, epoch: mixer(x, y)


def turned(args):
    """Turns what was mixed."""
    mixer = Mixup(**ALPHAS)

    def mix(x, y, epoch):
        mixed, targets = mixer(x, y)
        return mixed.mT, targets

    return mix


def nothing(args):
    return lambda x, y, epoch: (x, y)


def own_boxes(args):
    import timm.data.mixup

    timms = timm.data.mixup.rand_bbox

    def rand_bbox(*words, **more):
        timms(*words, **more)
        return 4, 12, 4, 12

    timm.data.mixup.rand_bbox = rand_bbox
    return of_class(Mixup)(args)


class CollateOwnHook(FastCollateMixup):
    def _mix_batch_collate(self, output, batch):
        output += torch.stack([image for image, _ in batch])
        output[:, :, :4] = output.flip(0)[:, :, :4]
        return 0.75


class CollateOwnCall(FastCollateMixup):
    def __call__(self, batch, _=None):
        output = torch.zeros(len(batch), *batch[0][0].shape, dtype=torch.uint8)
        lam = self._mix_batch_collate(output, batch)
        return output, soft(torch.tensor([label for _, label in batch]), lam)


class CollateOwnBox(FastCollateMixup):
    def __call__(self, batch, _=None):
        lam, _ = self._params_per_batch()
        return torch.stack([image for image, _ in batch]), soft(torch.tensor([label for _, label in batch]), lam)


class CollateTwo(FastCollateMixup):
    def __call__(self, batch, _=None):
        cutmix_bbox_and_lam((16, 16), 0.5)
        return super().__call__(batch)


def collate_of(kind):
    return lambda args: kind(**ALPHAS)


collate_timms, collate_own_hook, collate_own_call, collate_own_box, collate_two = map(
    collate_of, (FastCollateMixup, CollateOwnHook, CollateOwnCall, CollateOwnBox, CollateTwo)
)
