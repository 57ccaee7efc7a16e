"""The faster LoRA layer against peft's."""

import torch
from peft.tuners.lora import Linear

from forgetfilter.models.cpu import lora
from support.sessions import make_session

IDS = torch.arange(60).view(5, 12) % 50
COMPLETION = (torch.arange(12) >= 6).expand(5, 12)


def test_the_faster_lora_layer_computes_what_pefts_does(model):
    session = make_session(model, lora_rank=4)
    peft_forward = type(next(m for m in session.model.modules() if isinstance(m, Linear))).forward
    with torch.no_grad():
        for name, parameter in session.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.manual_seed(0))
    results = []
    for fused in (True, False):
        if not fused:
            for module in session.model.modules():
                if isinstance(module, Linear):
                    assert isinstance(module.forward, lora.Fused)
                    module.forward = peft_forward.__get__(module)
        session.model.zero_grad()
        session.scorer(IDS[:1, :0], IDS, COMPLETION)[0].sum().backward()
        results.append([p.grad.clone() for p in session.model.parameters() if p.requires_grad])
    assert any(gradient.abs().max() > 0 for gradient in results[0])
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(*results, strict=True))
