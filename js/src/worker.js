// SPDX-License-Identifier: Apache-2.0
import { serve } from './serve.js';

const receive = serve((message, transfer) => self.postMessage(message, transfer));
self.onmessage = (event) => receive(event.data);
